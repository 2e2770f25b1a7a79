"""Options of a training beside its settings: folds, processes, and what becomes of the results."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from brainage.errors import ConfigError
from brainage.types import DEFAULT_BASELINES

CHECKPOINT = Path("training") / "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options that `train`, `compare`, `benchmark` and each of their runs share.

    Attributes
    ----------
    output : pathlib.Path, optional
        Folder to write to. Absent: nothing is written, and nothing can be resumed.
    folds : int or str
        Folds of a cross-validation (1: a single split), or the column that holds each scan's fold.
    repeats : int
        How often the cross-validation is repeated, with other folds and seeds.
    leave_site_out : bool
        Make a fold of each site.
    baselines : tuple of str
        Simple models that the test scans are predicted with too.
    check_leakage : str
        Model to train on permuted ages: "none", "linear" or "network".
    resume, overwrite : bool
        Go on with the runs in `output`, or replace them.
    device : str
        "auto", "cpu" or "cuda": with several processes each takes the next GPU.
    tracking_uri : str, optional
        See `brainage.tracking.resolve_uri`.
    processes, replicas : int
        Processes that train at once (stages × replicas), and data-parallel copies of each block.
    threads : int, optional
        Torch threads of each process. Absent: those of this process, shared out.

    Examples
    --------
    >>> TrainOptions(output=Path("model"), folds=5).at("fold-0").checkpoint_path
    PosixPath('model/fold-0/training/checkpoint.safetensors')
    """

    output: Path | None = None
    folds: int | str = 1
    repeats: int = 1
    leave_site_out: bool = False
    baselines: tuple[str, ...] = DEFAULT_BASELINES
    check_leakage: str = "none"
    resume: bool = False
    overwrite: bool = False
    device: str = "auto"
    tracking_uri: str | None = None
    processes: int = 1
    replicas: int = 1
    threads: int | None = None

    @property
    def folder(self) -> Path:
        """Folder to write to.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.output is None:
            raise ConfigError("output", "no folder was given.", "Name the folder to write to.")
        return self.output

    @property
    def draws_test(self) -> bool:
        """Whether a test part is drawn; folds and sites left out are test parts already."""
        return self.folds == 1 and not self.leave_site_out

    @property
    def checkpoint_path(self) -> Path | None:
        """File of a run's state, where there is a folder."""
        return None if self.output is None else self.output / CHECKPOINT

    @property
    def ranks(self) -> int:
        """Number of processes that train: those that `torchrun` started, or `processes`."""
        return started_by_torchrun() or self.processes

    @property
    def stages(self) -> int:
        """Length of the pipeline."""
        return self.ranks // self.replicas

    @property
    def threads_each(self) -> int:
        """Torch threads of each process; `torchrun` has shared them out already."""
        share = 1 if started_by_torchrun() else self.ranks
        return self.threads or max(1, torch.get_num_threads() // share)

    def at(self, name: str) -> "TrainOptions":
        """Build the options of one run, which writes to the folder `name` inside `output`."""
        return replace(self, output=self.folder / name)


IN_MEMORY = TrainOptions()
"""Options of a run that writes nothing."""


def started_by_torchrun() -> int | None:
    """Return the number of processes that `torchrun` started; None where it did not start this."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
