"""Which trainings there are, in the order of their worth, with their settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brainage.config import Config, dump_config, load_preset, with_changes
from brainage.files import sha256_bytes
from pipelines.study.plan import load_study
from pipelines.study.reference import YARDSTICKS

STUDY = "yardsticks"
METHODS = ("greedy", "dgl", "lfnn_l", "infopro", "infopro_contrast")
ORDER = (
    ("resnet32", (2, 4)),
    ("resnet32", (8, 16)),
    ("resnet110", (2,)),
    ("resnet110", (4, 8, 16)),
)
"""Networks and numbers of blocks; before the first of a network comes backpropagation."""
QUICK_EPOCHS, QUICK_IMAGES = 2, 256
NARROW = {
    "network.arguments": {"depth": 8, "width": 4},
    "training.batch_size": 32,
    "images.train_limit": QUICK_IMAGES,
}


@dataclass(frozen=True)
class Training:
    """One training of the plan.

    Attributes
    ----------
    network, how : str
        As in the study `yardsticks`; ``lfnn_l K=4`` has eight workers that read convolutions.
    config : Config
        Settings, seed and epochs included.
    """

    network: str
    how: str
    config: Config

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return sha256_bytes(dump_config(self.config).encode())[:12]

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.network} {self.how}, {self.config.training.epochs} epochs"


def build_plan(seed: int, epochs: int | None = None, quick: bool = False) -> list[Training]:
    """Build all trainings, the most telling ones first.

    Parameters
    ----------
    epochs : int, optional
        Instead of the recipe's 160.
    quick : bool
        Narrow networks of two blocks, two epochs: does all of it run?
    """
    names = [
        (network, how)
        for position, (network, counts) in enumerate(ORDER)
        for how in [
            *["bp"] * (network not in [name for name, _ in ORDER[:position]]),
            *[f"{method} K={count}" for count in counts for method in METHODS],
        ]
    ]
    if quick:
        names, epochs = names[: 1 + len(METHODS)], epochs or QUICK_EPOCHS
    study = load_study(STUDY)
    own: Mapping[str, Any] = {
        "seed": seed,
        "training.precision": "auto",
        "training.memory_format": "channels_last",
        **({"training.epochs": epochs} if epochs else {}),
        **(NARROW if quick else {}),
    }
    return [
        Training(
            network,
            how,
            with_changes(
                study.runs[network], {**_changes(network, how, study.choices), **own}, how
            ),
        )
        for network, how in names
    ]


def _changes(network: str, how: str, choices: Mapping[str, Any]) -> dict[str, Any]:
    if how in choices["how"]:
        return dict(choices["how"][how])
    method, _, count = how.partition(" K=")
    learning = load_preset(network, "images").learning.model_copy(update={"blocks": int(count)})
    assert learning.method == method
    return {"learning": learning.model_dump()}


def published(network: str, how: str) -> float | None:
    """Test error in percent that Wang et al. 2021 report, where they do."""
    for row in YARDSTICKS:
        if (row["dataset"], row["how"]) == (network, how):
            return float(str(row["error_percent"]))
    return None
