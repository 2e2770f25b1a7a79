"""Options that several commands share, and groups of those that go together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from brainage.config import Config
    from brainage.workflows.cohorts import CohortOptions
    from brainage.workflows.masks import ScanOptions

CohortOption = Annotated[
    str, typer.Option("--cohort", help="CSV/TSV table, BIDS folder, or demo (phantoms).")
]
InsteadCohortOption = Annotated[
    str | None, typer.Option("--cohort", help="Table or BIDS folder instead of scans.")
]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", help='Keep rows, for example "CDR != CDR or CDR == 0".'),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", help="Name a column: age=AgeAtScan. May be repeated."),
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave unusable rows out and list them in the ledger.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of prepared scans.", show_default="user cache"),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML of settings instead of a preset.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="Settings in configs/brain_age.")]
NetworkOption = Annotated[
    str | None,
    typer.Option("--network", help="Settings in configs/images, or package.module:function."),
]
OwnNetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network",
        help="Network: sfcn, resnet3d, … or package.module:function.",
        show_default="the preset's",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: training.learning_rate=0.002. Repeatable."),
]
SeriesOption = Annotated[
    str | None,
    typer.Option("--series", help="DICOM series to take: its number, or text of its description."),
]
OutputOption = Annotated[Path, typer.Option("--output", help="Folder to write to.")]
LevelOption = Annotated[
    float,
    typer.Option("--level", min=0.0, max=1.0, help="Share of ages that the intervals shall hold."),
]
ModelOption = Annotated[Path, typer.Option("--model", help="Folder that `train` wrote.")]
AnyModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Folder that `train` wrote, or models:/NAME@ALIAS of MLflow's registry.",
        show_default="the released model",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of the run.", show_default="the preset's")
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Learning method: bp, lfnn_l, lfnn, … or package.module:RULE.",
        show_default="the preset's",
    ),
]
FoldsOption = Annotated[
    str, typer.Option("--folds", help="Cross-validate: N folds, or the column that holds them.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="MLflow server or sqlite:///…, or off.", show_default="./mlflow.db"
    ),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder of the data sets.", show_default="$BRAINAGE_DATA or cache"
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a run in --output.")]
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, help="Train blocks on N processes at once.")
]
ReplicasOption = Annotated[
    int, typer.Option("--replicas", min=1, help="Copies of every block among the processes.")
]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Timed passes; the median.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Torch threads.")]
SamplesOption = Annotated[int | None, typer.Option("--batch-size", min=2, help="Samples a batch.")]
PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")]


def read_cohort_options(
    source: str,
    where: str | None,
    columns: list[str] | None,
    *,
    skip_bad: bool = True,
    cache: Path | None = None,
    scans: "ScanOptions | None" = None,
    more: list[str] | None = None,
) -> "CohortOptions":
    """Check what the command line says of a cohort, and collect it."""
    from brainage.workflows.cohorts import CohortOptions
    from brainage.workflows.console import parse_pairs
    from brainage.workflows.inputs import check_cohort
    from brainage.workflows.masks import ScanOptions

    pairs = parse_pairs(columns or [], "--column")
    for name in (source, *(more or ())):
        check_cohort(name)
    scans = scans or ScanOptions()
    return CohortOptions(source, where, pairs, skip_bad, cache, scans, tuple(more or ()))


@dataclass(frozen=True)
class Extraction:
    """How scans are prepared, and whose brain masks are taken."""

    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Scans prepared at a time.")] = 1
    mask: Annotated[
        str, typer.Option("--mask", help="Brain masks: a column, or a path with {scan_id}.")
    ] = ""
    brain_extraction_command: Annotated[
        str,
        typer.Option(
            "--brain-extraction-command", help="Own tool: 'hd-bet -i {input} -o {output}'"
        ),
    ] = ""

    def options(self) -> "ScanOptions":
        """Collect them for the workflows."""
        from brainage.workflows.masks import ScanOptions

        return ScanOptions(self.jobs, self.mask, self.brain_extraction_command)


@dataclass(frozen=True)
class NamedCohort:
    """A cohort with ages, and how its table is read."""

    cohort: CohortOption
    where: WhereOption = None
    column: ColumnOption = None
    skip_bad: SkipBadOption = False
    cache: CacheOption = None

    def options(
        self, extraction: Extraction | None = None, more: list[str] | None = None
    ) -> "CohortOptions":
        """Collect them for the workflows; a cohort that is not there is told at once."""
        return read_cohort_options(
            self.cohort,
            self.where,
            self.column,
            skip_bad=self.skip_bad,
            cache=self.cache,
            scans=extraction.options() if extraction else None,
            more=more,
        )


@dataclass(frozen=True)
class ScansOrCohort:
    """Scans, or a cohort instead, and the model that looks at them."""

    scans: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCAN...", help="T1 scans: files, DICOM folders or zips; sample."),
    ] = None
    cohort: InsteadCohortOption = None
    where: WhereOption = None
    column: ColumnOption = None
    model: AnyModelOption = None
    cache: CacheOption = None

    def inputs(self) -> "list[str] | CohortOptions":
        """Check scans, cohort and model; return the scans, or the cohort that was named."""
        from brainage.errors import ConfigError
        from brainage.workflows.inputs import check_model, check_scans, place_named

        if bool(self.scans) == (self.cohort is not None):
            raise ConfigError("SCAN", "give either scans or --cohort.")
        check_model(self.model)
        if self.cohort is not None:
            return read_cohort_options(self.cohort, self.where, self.column, cache=self.cache)
        check_scans(self.scans or [])
        return [place_named(name, self.cache) for name in self.scans or []]


@dataclass(frozen=True)
class JoinedCohort:
    """A cohort whose columns are joined to a table of predictions."""

    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Cohort whose columns are joined by scan id.")
    ] = None
    measure: Annotated[
        list[str] | None, typer.Option("--measure", help="Also compare this column. Repeatable.")
    ] = None
    where: WhereOption = None
    column: ColumnOption = None

    def options(self, predictions: list[Path]) -> "CohortOptions | None":
        """Check the tables; what is returned is the cohort, if one was named."""
        from brainage.workflows.inputs import check_table

        for path in predictions:
            check_table(path)
        if self.cohort is None:
            return None
        return read_cohort_options(self.cohort, self.where, self.column)


@dataclass(frozen=True)
class Settings:
    """A preset or file of settings, and the changes that are made to it."""

    config: ConfigOption = None
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Epochs to train.", show_default="the preset's"),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Scans a batch.", show_default="the preset's"),
    ] = None
    blocks: Annotated[
        int | None,
        typer.Option("--blocks", min=1, help="Number of blocks K.", show_default="the preset's"),
    ] = None
    leader_fraction: Annotated[
        str | None,
        typer.Option(
            "--leader-fraction",
            help="Share of workers that lead, δ, or auto.",
            show_default="the preset's",
        ),
    ] = None
    set_: SetOption = None

    def resolve(
        self,
        preset: str,
        family: Literal["brain_age", "images"] = "brain_age",
        methods: Sequence[str] = (),
        draws_test: bool = True,
        **more: Any,
    ) -> "Config":
        """Return the resolved settings; `more` are other changes, ``__`` stands for a dot."""
        from brainage.workflows.console import parse_pairs
        from brainage.workflows.settings import resolve_config
        from brainage.workflows.unheeded import tell_unheeded

        changes = {
            "learning.blocks": self.blocks,
            "learning.leader_fraction": self.leader_fraction,
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            **{name.replace("__", "."): value for name, value in more.items()},
        }
        config = resolve_config(preset, self.config, changes, self.set_ or [], family)
        asked = [name for name, value in changes.items() if value is not None]
        asked += parse_pairs(self.set_ or [], "--set")
        tell_unheeded(config, asked, methods, draws_test)
        return config
