"""Runs of a benchmark: what all candidates share, and what one run of one candidate gives."""

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from brainage.cohorts.splits import Split
from brainage.config import Config, with_changes
from brainage.model.build import resolve_target, seeded
from brainage.training.callbacks import EpochRecord
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort, train_run
from pipelines.speed.plan import Candidate, Changes

SCHEDULES: dict[str, Changes] = {
    "end_to_end": {},
    "sequential": {"learning.schedule": "sequential"},
    "progressive": {"learning.schedule": "progressive"},
    "checkpointed": {"training.recompute": True},
    "compiled": {},
}
"""Schedules of one device, and the settings that each stands for."""

_AGES = (20.0, 80.0)


@dataclass(frozen=True)
class RunSettings:
    """What all candidates of a case share.

    Attributes
    ----------
    config : Config
        Settings before a candidate's `changes`.
    threads : int
        Torch threads of each process.
    device : str
        "cpu" or "cuda".
    steps, warmup_steps : int
        Timed steps of a run, and untimed ones before them. No steps are timed where `steps` is 0.
    trains : bool
        Whether a run also trains to the end, for `seconds_to_target`.
    prepared, splits : PreparedCohort and tuple of Split, optional
        Scans to train on, one split for each repeat; absent: steps alone, on random volumes.
    step_limit_s : float
        A run stops timing steps after so many seconds, but not before two.
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
    data_share: float = nan

    @classmethod
    def of(cls, record: EpochRecord) -> "Epoch":
        """Keep of an epoch's record what a benchmark reports."""
        share = record.data_seconds / record.epoch_seconds
        return cls(record.train_seconds_cumulative, record.val_score, share)


@dataclass(frozen=True)
class Measurement:
    """What one run gave.

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
    activation_mb: float = nan
    tensor_mb: float = nan
    epochs: tuple[Epoch, ...] = ()
    test_mae_years: float = nan
    energy_joules: float = nan


def resolve_config(candidate: Candidate, settings: RunSettings, repeat: int = 0) -> Config:
    """Resolve the settings of one run; each repeat has a seed of its own.

    Raises
    ------
    ConfigError
        If the candidate's changes are wrong.
    """
    own = SCHEDULES.get(candidate.schedule, {})
    changes = {"learning.method": candidate.method, **own, **candidate.changes}
    config = with_changes(settings.config, changes, candidate.name)
    config = config.model_copy(update={"seed": config.seed + repeat})
    return config if settings.trains or config.images else resolve_target(config, _AGES)


def random_batch(config: Config, repeat: int) -> dict[str, Tensor]:
    """Draw a batch of noise as volumes, with ages: the same for all candidates of a repeat."""
    count = config.training.batch_size
    with seeded(repeat, "batch"):
        inputs = torch.randn(count, *config.input_shape)
        target = _AGES[0] + (_AGES[1] - _AGES[0]) * torch.rand(count)
    return {"inputs": inputs, "target": target, "index": torch.arange(count)}


def train_to_end(
    config: Config, settings: RunSettings, repeat: int, processes: int = 1
) -> tuple[tuple[Epoch, ...], float]:
    """Train on the split of a repeat; epochs, and the mean absolute error on its test scans."""
    assert settings.prepared is not None
    options = TrainOptions(device=settings.device, processes=processes, threads=settings.threads)
    trained = train_run(settings.prepared, settings.splits[repeat], config, options)
    error = float(trained.predictions["brain_age_gap_years"].abs().mean())
    return tuple(Epoch.of(record) for record in trained.history), error
