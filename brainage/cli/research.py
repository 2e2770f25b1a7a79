"""Commands that make the tables of the repository: `study` and `speed`."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.command import LEARNING, command
from brainage.cli.options import (
    CacheOption,
    ColumnOption,
    DataRootOption,
    DeviceOption,
    OutputOption,
    OverwriteOption,
    SkipBadOption,
    TrackingOption,
    WhereOption,
    read_cohort_options,
)


@command(LEARNING)
def study(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Study; without a name, all are listed.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Reduced budget, in minutes; labelled so.")
    ] = False,
    data_root: DataRootOption = None,
    output: Annotated[Path, typer.Option("--output", help="Folder to write to.")] = Path("study"),
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML of this study instead of its own.")
    ] = None,
    device: DeviceOption = "auto",
    tracking_uri: TrackingOption = None,
    resume: Annotated[
        bool, typer.Option("--resume/--anew", help="Go on with what --output holds, or redo all.")
    ] = True,
) -> None:
    """Make a table or figure of the paper: finished runs in --output are not redone."""
    from brainage.workflows.inputs import check_device
    from brainage.workflows.research import announce_study, list_studies, load_program

    if name is None:
        list_studies()
        return
    check_device(device)
    announce_study(name, config, quick)
    engine = load_program("pipelines.study.engine")
    options = engine.StudyOptions(
        output, data_root, quick, config, device, tracking_uri, resume=resume
    )
    engine.run_study(name, options)


@command(LEARNING)
def speed(
    output: OutputOption,
    plan: Annotated[
        str, typer.Option("--plan", help="Plan in configs/speed: one_device, brain_age, memory, …")
    ] = "one_device",
    config: Annotated[Path | None, typer.Option("--config", help="YAML of a plan instead.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check that all runs; a minute, no measurement.")
    ] = False,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="CSV/TSV, BIDS or demo: for plans that train.")
    ] = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    folds: Annotated[
        int, typer.Option("--folds", min=1, help="Repeats go round so many folds.")
    ] = 5,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    cache: CacheOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Time methods and schedules on the same network and data: one table, one picture."""
    from brainage.workflows.inputs import check_device
    from brainage.workflows.research import announce_speed, load_program

    check_device(device)
    source = None
    if cohort is not None:
        source = read_cohort_options(cohort, where, column, skip_bad=skip_bad, cache=cache)
    announce_speed(plan, config, quick)
    benchmark = load_program("pipelines.speed.benchmark")
    benchmark.run_benchmark(
        benchmark.SpeedOptions(
            plan, output, quick, config, source, folds, device, tracking_uri, overwrite
        )
    )
