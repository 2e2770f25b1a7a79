"""`brainage speed`. Light: heavy imports stay inside the command."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import (
    CacheOption,
    ColumnOption,
    DebugOption,
    OutputOption,
    OverwriteOption,
    SkipBadOption,
    TrackingOption,
    WhereOption,
    build_cohort_options,
)


def speed(
    output: OutputOption,
    plan: Annotated[
        str, typer.Option("--plan", help="Race in configs/speed: one_device, brain_age, memory, …")
    ] = "one_device",
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML of a race instead of a plan.")
    ] = None,
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
    debug: DebugOption = False,
) -> None:
    """Race methods and schedules on the same network and data: one table, one run, one picture."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows.research import load_program

        race = load_program("pipelines.speed.race")
        source = None
        if cohort is not None:
            source = build_cohort_options(cohort, where, column, skip_bad, cache)
        race.run_race(
            race.SpeedOptions(
                plan, output, quick, config, source, folds, device, tracking_uri, overwrite
            )
        )
