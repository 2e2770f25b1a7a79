"""Options that several commands share. Light: imported by `brainage --help`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from brainage.workflows.cohorts import CohortOptions
    from brainage.workflows.masks import ScanOptions

CohortOption = Annotated[
    str, typer.Option("--cohort", help="CSV/TSV table, BIDS folder, or demo (phantoms).")
]
AddCohortOption = Annotated[
    list[str] | None,
    typer.Option(
        "--add-cohort",
        help="Another cohort beside it, taken whole; its folder is the site. Repeatable.",
    ),
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
    typer.Option("--cache", help="Folder of prepared scans [default: user cache]."),
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Scans prepared at a time.")]
MaskOption = Annotated[
    str, typer.Option("--mask", help="Brain masks: a column, or a path with {scan_id}.")
]
ExtractionOption = Annotated[
    str,
    typer.Option("--brain-extraction-command", help="Own tool: 'hd-bet -i {input} -o {output}'"),
]
PresetOption = Annotated[str, typer.Option("--preset", help="Settings in configs/brain_age.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML of settings instead of a preset.")
]
SeriesOption = Annotated[
    str | None,
    typer.Option("--series", help="DICOM series to take: its number, or text of its description."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: training.learning_rate=0.002. Repeatable."),
]
OutputOption = Annotated[Path, typer.Option("--output", help="Folder to write to.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs to train.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=1, help="Scans a batch.")]
BlocksOption = Annotated[int | None, typer.Option("--blocks", min=1, help="Number of blocks K.")]
LeaderOption = Annotated[
    str | None, typer.Option("--leader-fraction", help="Share of workers that lead, δ, or auto.")
]
LevelOption = Annotated[
    float, typer.Option("--level", help="Share of ages that the intervals shall hold.")
]
FoldsOption = Annotated[
    str, typer.Option("--folds", help="Cross-validate: N folds, or the column that holds them.")
]
RepeatsOption = Annotated[
    int, typer.Option("--repeats", min=1, help="Repeat the folds with other splits and seeds.")
]
LeaveSiteOption = Annotated[
    bool, typer.Option("--leave-site-out", help="Test each site on a model of the others.")
]
BaselinesOption = Annotated[
    str,
    typer.Option(
        "--baselines", help="constant, linear, gaussian_process, svr, volumes; or all, by commas."
    ),
]
LeakageOption = Annotated[
    str,
    typer.Option("--check-leakage", help="Learn permuted ages: none, linear, or network too."),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a run in --output.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, help="Train blocks on N processes at once.")
]
ReplicasOption = Annotated[
    int, typer.Option("--replicas", min=1, help="Copies of every block among the processes.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="MLflow server or sqlite:///…, or off [default: ./mlflow.db]."
    ),
]
ModelOption = Annotated[Path, typer.Option("--model", help="Folder that `train` wrote.")]
AnyModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Folder that `train` wrote, or models:/NAME@ALIAS of MLflow's registry "
        "[default: the released model].",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def build_cohort_options(
    source: str,
    where: str | None,
    columns: list[str] | None,
    skip_bad: bool,
    cache: Path | None,
    scans: "ScanOptions | None" = None,
    more: list[str] | None = None,
) -> "CohortOptions":
    """Collect what the command line says of a cohort."""
    from brainage.workflows.cohorts import CohortOptions
    from brainage.workflows.console import parse_pairs
    from brainage.workflows.masks import ScanOptions

    pairs = parse_pairs(columns or [], "--column")
    scans = scans or ScanOptions()
    return CohortOptions(source, where, pairs, skip_bad, cache, scans, tuple(more or ()))
