"""Commands that judge predictions: groups, reliability, calibrate, explain."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import (
    AnyModelOption,
    CacheOption,
    CohortOption,
    ColumnOption,
    DebugOption,
    ModelOption,
    OutputOption,
    SkipBadOption,
    WhereOption,
    build_cohort_options,
)

PredictionsOption = Annotated[
    Path, typer.Option("--predictions", help="Table that `train` or `predict` wrote.")
]
JoinOption = Annotated[
    str | None, typer.Option("--cohort", help="Cohort whose columns are joined by scan id.")
]
MeasureOption = Annotated[
    list[str] | None, typer.Option("--measure", help="Also compare this column. Repeatable.")
]


def groups(
    predictions: Annotated[
        list[Path],
        typer.Option("--predictions", help="Table of `train` or `predict`. May be repeated."),
    ],
    group: Annotated[str, typer.Option("--group", help='Cases: "CDR > 0", or a column.')],
    output: OutputOption,
    cohort: JoinOption = None,
    measure: MeasureOption = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    within_sd: Annotated[
        float | None, typer.Option("--within-sd", min=0, help="From `reliability`, years.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Compare the gap, and plain measures beside it, between cases and controls."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import groups as job

        options = build_cohort_options(cohort, where, column, True, None) if cohort else None
        job.groups(predictions, group, output, options, measure or [], within_sd)


def reliability(
    predictions: PredictionsOption,
    output: OutputOption,
    cohort: JoinOption = None,
    measure: MeasureOption = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    max_years: Annotated[
        float, typer.Option("--max-years", min=0, help="Most years between two scans.")
    ] = 1.0,
    debug: DebugOption = False,
) -> None:
    """How well predicted age and gap repeat: ICC(2,1), Bland-Altman, smallest detectable change."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import groups as job

        options = build_cohort_options(cohort, where, column, True, None) if cohort else None
        job.reliability(predictions, output, options, measure or [], max_years)


def calibrate(
    model: ModelOption,
    cohort: CohortOption,
    output: OutputOption,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    cache: CacheOption = None,
    debug: DebugOption = False,
) -> None:
    """Fit offset and intervals to 20 or more healthy controls of your own scanner."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import calibrate as job

        options = build_cohort_options(cohort, where, column, skip_bad, cache)
        job.calibrate(model, options, output)


def explain(
    output: OutputOption,
    model: AnyModelOption = None,
    scans: Annotated[list[str] | None, typer.Argument(metavar="SCAN...", help="T1 scans.")] = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Table or BIDS folder instead of scans.")
    ] = None,
    method: Annotated[
        str,
        typer.Option("--method", help="integrated_gradients, smoothgrad or occlusion; by commas."),
    ] = "smoothgrad,integrated_gradients",
    where: WhereOption = None,
    column: ColumnOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of noise and check.")] = 0,
    cache: CacheOption = None,
    debug: DebugOption = False,
) -> None:
    """Map what makes a brain look older or younger to the network, and check the map."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import explain as job
        from brainage.workflows.cohorts import pick_scans

        options = build_cohort_options(cohort, where, column, True, cache) if cohort else None
        methods = [part.strip() for part in method.split(",") if part.strip()]
        chosen = pick_scans(scans, options)
        job.explain(chosen, output, model=model, methods=methods, seed=seed, cache=cache)
