"""What an entrant of the race is: who it is, and how it runs a lap.

A module that offers entrants has a constant ``SCHEDULES`` (the schedules that it runs) and a
function ``build_entrant(spec, track)``.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from brainage.cohorts.splits import Split
from brainage.config import Config
from brainage.training.callbacks import EpochRecord
from brainage.training.run import PreparedCohort


@dataclass(frozen=True)
class Spec:
    """One line of the plan.

    Attributes
    ----------
    name : str
        Unique in the plan; stands in pictures and messages.
    method : str
        Name of a learning method, `brainage.types.METHODS`.
    schedule : str
        "end_to_end", "sequential", "progressive", "checkpointed", "compiled"; "pipelined", "ddp",
        "1f1b".
    devices : int
        Devices or processes.
    changes : dict
        Settings by dotted key that this entrant has of its own, such as ``training.epochs``.
    repeats : int, optional
        Laps; absent: as many as the plan says.
    """

    name: str
    method: str
    schedule: str
    devices: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    repeats: int | None = None


@dataclass(frozen=True)
class Track:
    """What all entrants share.

    Attributes
    ----------
    config : Config
        Settings before an entrant's `changes`; the age range is resolved.
    threads : int
        Torch threads of each process of an entrant.
    device : str
        "cpu" or "cuda".
    steps, warmup_steps : int
        Timed steps of a lap, and untimed ones before them. No steps are timed where `steps` is 0.
    trains : bool
        Whether a lap also trains to the end, for `seconds_to_target`.
    prepared, splits : PreparedCohort and tuple of Split, optional
        Scans to train on, one split for each repeat; absent: steps alone, on random volumes.
    step_limit_s : float
        A lap stops timing steps after so many seconds, but not before two.
    """

    config: Config
    threads: int = 1
    device: str = "cpu"
    steps: int = 10
    warmup_steps: int = 2
    trains: bool = False
    prepared: PreparedCohort | None = None
    splits: tuple[Split, ...] = ()
    step_limit_s: float = 60.0


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training: seconds up to its end, score, and share of waiting for batches."""

    train_seconds_cumulative: float
    val_score: float
    data_share: float = float("nan")

    @classmethod
    def of(cls, record: EpochRecord) -> "Epoch":
        """What the race keeps of an epoch's record."""
        share = record.data_seconds / record.epoch_seconds
        return cls(record.train_seconds_cumulative, record.val_score, share)


@dataclass(frozen=True)
class Lap:
    """What one repeat of one entrant gave.

    Attributes
    ----------
    step_seconds : tuple of float
        Each timed step: forward, backward and optimizer on a batch already in memory.
    peak_memory_mb : float
        Largest memory above what the process held before the network was there: resident set
        on CPU (the sum over processes), allocated tensors on CUDA (the largest device).
    activation_mb : float
        Largest sum of tensors that autograd kept for a backward pass at one time; NaN where it
        was not counted, and where activations are recomputed.
    tensor_mb : float
        Largest sum of all tensors that a step made and that were alive at one time, recomputed
        ones and gradients included; NaN where it was not counted.
    epochs : tuple of Epoch
        Empty where nothing was trained to the end.
    test_mae_years : float
        Of the kept weights; NaN where nothing was trained to the end.
    energy_joules : float
        Of the timed steps; NaN where the machine does not tell.
    """

    step_seconds: tuple[float, ...]
    peak_memory_mb: float
    activation_mb: float = float("nan")
    tensor_mb: float = float("nan")
    epochs: tuple[Epoch, ...] = ()
    test_mae_years: float = float("nan")
    energy_joules: float = float("nan")


class Entrant(Protocol):
    """A method under a schedule, ready to run."""

    spec: Spec
    network: str
    blocks: int

    def run_lap(self, repeat: int) -> Lap:
        """Measure once; `repeat` picks seed and split."""

    def close(self) -> None:
        """End what the entrant started."""
