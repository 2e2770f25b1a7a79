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


def _errors(dataset: str, method: str, test: Sequence[float], train: Sequence[float]) -> list[Row]:
    """Test and train error over δ."""
    return [
        {
            "dataset": dataset,
            "method": method,
            "leader_fraction": fraction,
            "error_percent": error,
            "train_error_percent": train_error,
        }
        for fraction, error, train_error in zip(TENTHS, test, train, strict=True)
    ]


def _each(metric: str, axis: str, numbers: Mapping[str, float], **fixed: str) -> list[Row]:
    return [{**fixed, axis: name, metric: number} for name, number in numbers.items()]


# fmt: off
S1 = [
    *_sweep("accuracy_percent", "leader_fraction", TENTHS, [96.40, 96.68, 96.23, 96.17, 95.98, 95.89, 95.93, 95.39, 95.22, 94.87], method="lfnn_l"),  # noqa: E501
    *_sweep("accuracy_percent", "leader_fraction", TENTHS, [96.08, 96.30, 96.41, 96.38, 96.52, 96.19, 96.21, 96.34, 96.29, 96.20], method="lfnn"),  # noqa: E501
    {"method": "bp", "accuracy_percent": 98.11},
]
MNIST_275K = [
    *_errors("mnist_275k", "lfnn_l",
             [1.96, 1.67, 1.98, 1.49, 1.49, 1.49, 1.49, 1.64, 1.69, 1.57],
             [.12, .42, .07, .06, .05, .11, .04, .36, .24, .92]),
    *_errors("mnist_275k", "lfnn",
             [1.24, 1.68, 1.50, 1.60, 1.40, 1.20, 1.18, 1.40, 1.44, 1.51],
             [1.21, 1.21, 1.20, 1.20, 1.10, 1.10, 1.15, 1.10, 1.21, 1.17]),
]
MNIST_438K = [
    *_errors("mnist_438k", "lfnn_l",
             [1.25, 1.49, 1.85, 1.12, 1.27, 1.76, 1.20, 1.64, 1.20, 1.23],
             [1.14, 1.22, 1.30, 1.22, 1.17, 1.21, 1.15, 1.15, 1.18, 1.13]),
    *_errors("mnist_438k", "lfnn",
             [1.89, 2.49, 2.20, 2.97, 2.23, 2.70, 2.14, 2.27, 2.20, 2.67],
             [1.70, 2.17, 2.08, 1.84, 2.06, 1.97, 1.49, 1.93, 1.61, 1.58]),
]
CIFAR10 = [
    *_errors("cifar10", "lfnn_l",
             [23.37, 23.09, 21.26, 21.56, 21.11, 21.57, 20.95, 21.21, 21.28, 21.34],
             [6.20, 5.65, 3.57, 3.85, 4.07, 4.20, 4.69, 5.09, 4.38, 4.47]),
    *_errors("cifar10", "lfnn",
             [23.36, 20.11, 19.56, 19.32, 19.64, 18.84, 19.21, 19.84, 19.92, 18.41],
             [8.59, 5.56, 3.63, 4.05, 4.31, 4.89, 3.57, 5.43, 3.06, 3.37]),
]
TINY_IMAGENET = [
    *_errors("tiny_imagenet", "lfnn_l",
             [73.98, 63.09, 54.24, 49.63, 44.87, 40.96, 37.17, 38.05, 36.06, 39.56],
             [71.47, 57.29, 43.69, 38.57, 30.53, 22.04, 19.50, 19.38, 16.00, 32.33]),
    *_errors("tiny_imagenet", "lfnn",
             [39.85, 40.12, 39.34, 39.18, 39.33, 39.41, 39.42, 38.63, 35.21, 39.56],
             [36.50, 35.76, 32.71, 32.16, 32.02, 32.36, 32.70, 31.91, 32.59, 32.33]),
]
IMAGENET_SUBSET = [
    *_errors("imagenet_subset", "lfnn_l",
             [90.57, 84.83, 78.75, 73.65, 68.61, 64.25, 59.53, 56.54, 53.82, 54.44],
             [68.96, 51.89, 39.49, 27.78, 22.68, 13.37, 9.23, 5.41, 5.58, 6.40]),
    *_errors("imagenet_subset", "lfnn",
             [79.37, 78.83, 69.87, 61.80, 60.05, 59.10, 57.46, 58.01, 57.37, 57.75],
             [53.13, 52.18, 38.38, 26.26, 25.21, 20.35, 18.42, 18.40, 16.70, 17.94]),
]
IMAGENET = [
    *_errors("imagenet", "lfnn_l",
             [95.21, 95.80, 68.22, 59.43, 59.95, 55.58, 55.88, 51.59, 47.76, 43.38],
             [94.83, 94.09, 57.69, 52.67, 54.31, 38.84, 36.13, 32.45, 31.70, 29.66]),
    *_errors("imagenet", "lfnn",
             [86.51, 67.88, 59.20, 55.75, 58.27, 57.01, 57.75, 53.66, 48.18, 44.34],
             [84.74, 61.90, 54.49, 32.96, 20.75, 29.24, 20.94, 20.26, 23.09, 20.23]),
]
WEIGHTS = tuple(round(0.2 * n, 1) for n in range(1, 11))
"""λ of S9: 0.2 to 2.0."""
S9 = [
    *_sweep("error_percent", "follower_weight", WEIGHTS, [1.51, 1.46, 1.48, 1.40, 1.20, 1.40, 1.41, 1.37, 1.40, 1.35], dataset="mnist", method="lfnn_l"),  # noqa: E501
    *_sweep("error_percent", "follower_weight", WEIGHTS, [1.51, 1.51, 1.52, 1.50, 1.18, 1.46, 1.43, 1.47, 1.46, 1.41], dataset="mnist", method="lfnn"),  # noqa: E501
    *_sweep("error_percent", "follower_weight", WEIGHTS, [22.43, 23.77, 21.79, 21.54, 20.95, 23.13, 21.94, 22.06, 22.67, 21.37], dataset="cifar10", method="lfnn_l"),  # noqa: E501
    *_sweep("error_percent", "follower_weight", WEIGHTS, [20.31, 19.37, 20.46, 19.66, 19.21, 19.31, 19.95, 19.66, 19.78, 23.50], dataset="cifar10", method="lfnn"),  # noqa: E501
]
# fmt: on
S2 = [*MNIST_275K, *MNIST_438K, *CIFAR10]
S3 = IMAGENET
S7 = [*MNIST_438K, *CIFAR10, *TINY_IMAGENET, *IMAGENET_SUBSET, *IMAGENET]
FIGURE_S7: list[Row] = [
    {
        "dataset": row["dataset"],
        "method": row["method"],
        "leader_fraction": row["leader_fraction"],
        "accuracy_percent": round(100.0 - float(str(row["error_percent"])), 2),
    }
    for row in S7
]
"""The same numbers as accuracies: the figure plots what the table prints."""

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
        # Computed from these two: near 0, as for a leader plus residuals that are independent.
        "shared_residual": -0.0225,
        "leader_follower_distance": 0.35,
        "followers_distance": 0.60,
        "leader_variance": 0.80,
        "follower_variance": 0.85,
    }
]


def _yardsticks(network: str, bp: float, errors: Mapping[str, Sequence[float]]) -> list[Row]:
    rows: list[Row] = [{"dataset": network, "how": "bp", "error_percent": bp}]
    for how, numbers in errors.items():
        rows += [
            {"dataset": network, "how": f"{how} K={blocks}", "error_percent": number}
            for blocks, number in zip((2, 4, 8, 16), numbers, strict=True)
        ]
    return rows


YARDSTICKS = [
    *_yardsticks(
        "resnet32",
        7.37,
        {
            "greedy": (10.30, 16.07, 21.19, 24.59),
            "dgl": (8.69, 11.48, 14.17, 16.21),
            "infopro": (8.13, 8.64, 11.40, 14.23),
            "infopro_contrast": (7.76, 8.58, 11.13, 12.75),
        },
    ),
    *_yardsticks(
        "resnet110",
        6.50,
        {
            "greedy": (8.21, 13.16, 15.61, 18.92),
            "dgl": (7.70, 10.50, 12.46, 13.80),
            "infopro": (7.01, 7.96, 9.40, 10.78),
            "infopro_contrast": (6.42, 7.30, 8.93, 9.90),
        },
    ),
]
"""Test errors of isolated blocks on CIFAR-10 as Wang et al. 2021 (arXiv 2101.10832) report them:
equal cuts, trained together, heads of one linear layer (greedy) or their own. Not the paper's."""
