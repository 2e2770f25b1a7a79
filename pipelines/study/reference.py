"""Numbers that the paper reports: Cheng, Yin et al., arXiv 2310.07885 and its later version.

Rows of axis values and metrics under the names of our own tables, so that a merge on the axes sets
them side by side. Numbers are copied as they stand; where a table repeats over data sets or
methods, the helpers below unfold it.
"""

from collections.abc import Mapping, Sequence

Row = Mapping[str, object]

TENTHS = tuple(round(0.1 * n, 1) for n in range(1, 11))
"""δ of the sweeps: 10 to 100 %."""


def _sweep(
    metric: str, axis: str, values: Sequence[float], numbers: Sequence[float], **fixed: str
) -> list[Row]:
    return [
        {**fixed, axis: value, metric: number}
        for value, number in zip(values, numbers, strict=True)
    ]


def _each(metric: str, axis: str, numbers: Mapping[str, float], **fixed: str) -> list[Row]:
    return [{**fixed, axis: name, metric: number} for name, number in numbers.items()]


# fmt: off
S1 = [
    *_sweep("accuracy_percent", "leader_fraction", TENTHS, [96.40, 96.68, 96.23, 96.17, 95.98, 95.89, 95.93, 95.39, 95.22, 94.87], method="lfnn_l"),  # noqa: E501
    *_sweep("accuracy_percent", "leader_fraction", TENTHS, [96.08, 96.30, 96.41, 96.38, 96.52, 96.19, 96.21, 96.34, 96.29, 96.20], method="lfnn"),  # noqa: E501
    {"method": "bp", "accuracy_percent": 98.11},
]
S2 = [
    *_sweep("error_percent", "leader_fraction", TENTHS, [1.96, 1.67, 1.98, 1.49, 1.49, 1.49, 1.49, 1.64, 1.69, 1.57], method="lfnn_l", dataset="mnist"),  # noqa: E501
    *_sweep("error_percent", "leader_fraction", TENTHS, [1.24, 1.68, 1.50, 1.60, 1.40, 1.20, 1.18, 1.40, 1.44, 1.51], method="lfnn", dataset="mnist"),  # noqa: E501
    *_sweep("error_percent", "leader_fraction", TENTHS, [23.37, 23.09, 21.26, 21.56, 21.11, 21.57, 20.95, 21.21, 21.28, 21.34], method="lfnn_l", dataset="cifar10"),  # noqa: E501
    *_sweep("error_percent", "leader_fraction", TENTHS, [23.36, 20.11, 19.56, 19.32, 19.64, 18.84, 19.21, 19.84, 19.92, 18.41], method="lfnn", dataset="cifar10"),  # noqa: E501
]
# fmt: on
S3_DATASETS = ("tiny_imagenet", "imagenet_subset", "imagenet")
S3 = [
    {"dataset": name, "method": "lfnn_l", "leader_fraction": fraction, "error_percent": number}
    for fraction, numbers in ((0.9, (36.06, 53.82, 47.76)), (0.1, (73.98, 90.57, 95.21)))
    for name, number in zip(S3_DATASETS, numbers, strict=True)
]
S5 = _each("accuracy_percent", "method", {"dfa": 87.1, "lfnn_l": 90.1}, dataset="cifar10")
S6 = [
    *_each("error_percent", "method", {"predsim": 0.31, "lfnn_l": 0.37}, dataset="mnist"),
    *_each("error_percent", "method", {"predsim": 5.58, "lfnn_l": 4.26}, dataset="cifar10"),
]
S8 = [
    *_each(
        "accuracy_percent",
        "losses",
        {"all": 90.1, "leaders": 89.5, "followers": 88.7},
        method="lfnn",
        dataset="cifar10",
    ),
    *_each(
        "accuracy_percent",
        "losses",
        {"all": 88.0, "leaders": 87.2},
        method="lfnn_l",
        dataset="cifar10",
    ),
]
S10: list[Row] = [
    {
        "leader_follower_cosine": 0.65,
        "followers_cosine": 0.40,
        "leader_follower_distance": 0.35,
        "followers_distance": 0.60,
        "leader_variance": 0.80,
        "follower_variance": 0.85,
    }
]
