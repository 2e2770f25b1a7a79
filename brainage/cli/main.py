"""The `brainage` command. Thin: heavy imports stay inside the commands."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from brainage import __version__
from brainage.cli import app as cli_app
from brainage.cli import images as cli_images
from brainage.cli import mlflow as cli_mlflow
from brainage.cli import parallel as cli_pipelined
from brainage.cli import raw as cli_raw
from brainage.cli import released as cli_released
from brainage.cli import report as cli_report
from brainage.cli import science as cli_science
from brainage.cli import speed as cli_speed
from brainage.cli import study as cli_study
from brainage.cli.options import (
    AddCohortOption,
    AnyModelOption,
    BaselinesOption,
    BatchOption,
    BlocksOption,
    CacheOption,
    CohortOption,
    ColumnOption,
    ConfigOption,
    DebugOption,
    DeviceOption,
    EpochsOption,
    ExtractionOption,
    FoldsOption,
    JobsOption,
    LeaderOption,
    LeakageOption,
    LeaveSiteOption,
    LevelOption,
    MaskOption,
    OutputOption,
    OverwriteOption,
    PresetOption,
    ProcessesOption,
    RepeatsOption,
    ReplicasOption,
    ResumeOption,
    SeriesOption,
    SetOption,
    SkipBadOption,
    TrackingOption,
    WhereOption,
    build_cohort_options,
)
from brainage.cli.usage import CommandGroup
from brainage.types import METHODS

app = typer.Typer(
    name="brainage",
    cls=CommandGroup,
    help="How old does this brain look? Research use only, never a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"brainage {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """How old does this brain look? Research use only, never a diagnosis."""


@app.command()
def train(
    cohort: CohortOption,
    output: OutputOption,
    add_cohort: AddCohortOption = None,
    preset: PresetOption = "cnn3d_light",
    config: ConfigOption = None,
    method: Annotated[
        str | None, typer.Option("--method", help=f"One of {', '.join(METHODS)}.")
    ] = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    folds: FoldsOption = "1",
    repeats: RepeatsOption = 1,
    leave_site_out: LeaveSiteOption = False,
    baselines: BaselinesOption = "constant,linear",
    check_leakage: LeakageOption = "linear",
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the run.")] = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    blocks: BlocksOption = None,
    leader_fraction: LeaderOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    jobs: JobsOption = 1,
    mask: MaskOption = "",
    brain_extraction_command: ExtractionOption = "",
    processes: ProcessesOption = 1,
    replicas: ReplicasOption = 1,
    cache: CacheOption = None,
    tracking_uri: TrackingOption = None,
    debug: DebugOption = False,
) -> None:
    """Train on a cohort, test on held-out subjects, and write a model with its results."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows.masks import ScanOptions
        from brainage.workflows.settings import parse_baselines, parse_folds, resolve_config

        changes = {
            "learning.method": method,
            "learning.blocks": blocks,
            "learning.leader_fraction": leader_fraction,
            "training.epochs": epochs,
            "training.batch_size": batch_size,
            "seed": seed,
        }
        settings = resolve_config(preset, config, changes, set_ or [])
        chosen = parse_baselines(baselines)
        scans = ScanOptions(jobs, mask, brain_extraction_command)
        cohort_options = build_cohort_options(
            cohort, where, column, skip_bad, cache, scans, add_cohort
        )

        from brainage.workflows import train as job

        job.train(
            cohort_options,
            output,
            settings,
            folds=parse_folds(folds),
            repeats=repeats,
            leave_site_out=leave_site_out,
            baselines=chosen,
            check_leakage=check_leakage,
            resume=resume,
            overwrite=overwrite,
            device=device,
            processes=processes,
            replicas=replicas,
            tracking_uri=tracking_uri,
        )


@app.command()
def compare(
    cohort: CohortOption,
    output: OutputOption = Path("comparison"),
    add_cohort: AddCohortOption = None,
    methods: Annotated[
        str, typer.Option("--methods", help="Methods, separated by commas.")
    ] = "bp,lfnn_l",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds.")] = 1,
    preset: PresetOption = "cnn3d_light",
    config: ConfigOption = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    folds: FoldsOption = "1",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    blocks: BlocksOption = None,
    leader_fraction: LeaderOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    jobs: JobsOption = 1,
    mask: MaskOption = "",
    brain_extraction_command: ExtractionOption = "",
    cache: CacheOption = None,
    tracking_uri: TrackingOption = None,
    debug: DebugOption = False,
) -> None:
    """Train several methods on the same folds and seeds, and set them side by side."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows.masks import ScanOptions
        from brainage.workflows.settings import parse_folds, resolve_config

        changes = {
            "learning.blocks": blocks,
            "learning.leader_fraction": leader_fraction,
            "training.epochs": epochs,
            "training.batch_size": batch_size,
        }
        settings = resolve_config(preset, config, changes, set_ or [])
        chosen = [part.strip() for part in methods.split(",") if part.strip()]
        scans = ScanOptions(jobs, mask, brain_extraction_command)
        cohort_options = build_cohort_options(
            cohort, where, column, skip_bad, cache, scans, add_cohort
        )

        from brainage.workflows import compare as job

        job.compare(
            cohort_options,
            output,
            chosen,
            seeds=seeds,
            config=settings,
            folds=parse_folds(folds),
            resume=resume,
            overwrite=overwrite,
            device=device,
            tracking_uri=tracking_uri,
        )


@app.command()
def predict(
    scans: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCAN...", help="T1 scans: files, DICOM folders or zips."),
    ] = None,
    model: AnyModelOption = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Table or BIDS folder instead of scans.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", help="Table to write; the ledger lies beside it.")
    ] = Path("predictions.csv"),
    series: SeriesOption = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    level: LevelOption = 0.9,
    jobs: JobsOption = 1,
    mask: MaskOption = "",
    brain_extraction_command: ExtractionOption = "",
    cache: CacheOption = None,
    debug: DebugOption = False,
) -> None:
    """Predict the age of scans. Exit code 2 if any scan failed; the others are written."""
    from brainage.workflows.console import BAD_INPUT, clear_errors

    with clear_errors(debug):
        from brainage.workflows import predict as job
        from brainage.workflows.cohorts import pick_scans
        from brainage.workflows.masks import ScanOptions

        cohort_options = (
            build_cohort_options(cohort, where, column, True, cache) if cohort else None
        )
        how = ScanOptions(jobs, mask, brain_extraction_command)
        options = job.PredictOptions(level, series, cache, how)
        if job.predict(pick_scans(scans, cohort_options), model, output, options):
            raise typer.Exit(BAD_INPUT)


@app.command()
def evaluate(
    output: OutputOption,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Table with ages and predictions.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model to evaluate: folder or models:/NAME@ALIAS.")
    ] = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Cohort with ages, for --model.")
    ] = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    level: LevelOption = 0.9,
    correct_bias: Annotated[
        str | None,
        typer.Option("--correct-bias", help="Add a corrected gap: beheshti, de_lange or cole."),
    ] = None,
    controls: Annotated[
        str | None, typer.Option("--controls", help="Filter of scans to fit the correction on.")
    ] = None,
    cache: CacheOption = None,
    debug: DebugOption = False,
) -> None:
    """Write metrics and pictures of predictions, or of a model on scans it has not seen."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import evaluate as job

        of_model = {"model": model, "cohort": cohort, "where": where, "column": column}
        job.check_source(predictions, of_model | {"skip-bad": skip_bad})
        options = build_cohort_options(cohort, where, column, skip_bad, cache) if cohort else None
        correction = job.parse_correction(correct_bias, controls)
        source = job.choose_source(predictions, model, options)
        job.evaluate(source, output, cohort=options, level=level, correction=correction)


@app.command()
def demo(
    output: OutputOption = Path("demo"),
    debug: DebugOption = False,
) -> None:
    """Make phantoms, compare bp and lfnn_l on them, and predict: everything, in minutes."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import demo as job

        job.demo(output)


@app.command()
def phantoms(
    output: OutputOption,
    subjects: Annotated[int, typer.Option("--subjects", min=1, help="People to make.")] = 24,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the cohort.")] = 0,
    debug: DebugOption = False,
) -> None:
    """Write a synthetic cohort with the folder structure of a real one."""
    from brainage.workflows.console import clear_errors, say

    with clear_errors(debug):
        from brainage.cohorts.phantom import write_phantom_cohort
        from brainage.files import hold_folder

        with hold_folder(output):
            say(f"written to {write_phantom_cohort(output, subjects, seed)}")


@app.command()
def presets() -> None:
    """List the presets and their networks."""
    from brainage.config import load_preset, preset_names
    from brainage.workflows.console import clear_errors, say

    with clear_errors(debug=False):
        for name in preset_names():
            config = load_preset(name)
            grid = "×".join(str(size) for size in config.preprocessing.shape)
            spacing = config.preprocessing.spacing_mm
            say(f"{name:14} {config.network.name:12} {grid} voxels of {spacing:g} mm")


app.command()(cli_images.benchmark)
app.command()(cli_images.fetch)
app.command()(cli_speed.speed)
app.command()(cli_study.study)
app.command()(cli_science.groups)
app.command()(cli_science.reliability)
app.command()(cli_science.calibrate)
app.command()(cli_science.explain)
app.command()(cli_released.release)
app.command()(cli_released.selftest)
app.command()(cli_raw.prepare)
app.command()(cli_pipelined.cut)
app.command()(cli_pipelined.simulate)
app.command()(cli_report.report)
app.command()(cli_mlflow.register)
app.command()(cli_mlflow.mlflow)
app.command()(cli_app.app)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode, or a file name that is none, must not end a command.
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
