"""Records of the studies: what a study is made of, and what one of its runs gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.study.draw import Draw
from pipelines.study.plan import Case
from pipelines.study.reference import Row
from pipelines.study.table import Results

CHECKPOINTS = "checkpoints"
"""Folder inside the output that holds the state of runs that are not finished."""


@dataclass(frozen=True)
class StudyOptions:
    """Options of the command beside the study's name; without `resume` all runs are redone."""

    output: Path
    data_root: Path | None = None
    quick: bool = False
    config: Path | None = None
    device: str = "auto"
    tracking_uri: str | None = None
    resume: bool = True


@dataclass(frozen=True)
class Outcome:
    """Result of a run: numbers for the table, and rows for curves (`line`, x, `value`)."""

    metrics: Mapping[str, float | None]
    curves: Sequence[Mapping[str, object]] = field(default_factory=tuple)


Job = Callable[[Case, StudyOptions], Outcome]


@dataclass(frozen=True)
class Study:
    """Record of one study in the catalogue; its title, data and budget are in its YAML.

    Attributes
    ----------
    job : callable
        From one case to its outcome.
    metrics : sequence of str
        Columns of the table, in order; the first is the one that counts.
    draw : callable
        The picture.
    reference : sequence of mapping
        Reported numbers, under the same names of axes and metrics.
    source : str
        Whose they are, for the table's heading.
    trains : bool
        Whether a network is trained, so that the number of epochs means something.
    refine : callable, optional
        Adds columns to the table, such as differences that are paired scan by scan.
    """

    job: Job
    metrics: Sequence[str]
    draw: Draw
    reference: Sequence[Row] = ()
    source: str = "paper's"
    trains: bool = True
    refine: Callable[[Results], Results] | None = None
