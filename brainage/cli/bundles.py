"""Commands on trained models: `robustness`, `release`, `export` and `register`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from brainage.cli.command import MODELS, command
from brainage.cli.options import (
    AnyModelOption,
    CacheOption,
    CohortOption,
    ColumnOption,
    ModelOption,
    OutputOption,
    TrackingOption,
    WhereOption,
    read_cohort_options,
)


@command(MODELS)
def robustness(
    cohort: CohortOption,
    output: OutputOption,
    model: AnyModelOption = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    only: Annotated[
        str, typer.Option("--only", help="Perturbations or groups, by commas: turn,noise_3.")
    ] = "",
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Draw so many scans.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all that is drawn.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Scans prepared at a time.")] = 1,
    cache: CacheOption = None,
) -> None:
    """Measure how far predicted ages move when scans are turned, resampled, stripped, ….

    Minutes for each scan; finished rows in --output are not computed again.
    """
    from brainage.workflows.inputs import check_model

    check_model(model)
    source = read_cohort_options(cohort, where, column, cache=cache)
    from brainage.preprocessing.perturbations import select_perturbations

    names = [name.strip() for name in only.split(",") if name.strip()]
    select_perturbations(names)  # a misspelt name is told before the model is loaded
    from brainage.workflows import robustness as job

    job.robustness(source, output, model, only=names, sample=sample, seed=seed, jobs=jobs)


@command(MODELS)
def release(
    model: ModelOption,
    output: OutputOption,
    note: Annotated[str, typer.Option("--note", help="A line for the model card.")] = "",
    robustness: Annotated[
        Path | None,
        typer.Option("--robustness", help="summary.json of `robustness`, for the model card."),
    ] = None,
    left_out: Annotated[
        Path | None,
        typer.Option(
            "--left-out",
            help="predictions.csv of `train --leave-site-out`: for the card, and for the intervals "
            "of new scans.",
        ),
    ] = None,
    volumes: Annotated[
        list[Path] | None,
        typer.Option(
            "--volumes",
            help="volumes.csv of `volumes` on healthy people, for the report's curves. Repeatable.",
        ),
    ] = None,
    retests: Annotated[
        Path | None,
        typer.Option("--retests", help="Out-of-fold predictions with people scanned twice."),
    ] = None,
) -> None:
    """Make a trained model small enough to travel: half precision, and a self-test."""
    from brainage.workflows.inputs import check_model

    check_model(model)
    from brainage.workflows import release as job

    job.release(model, output, note, robustness, left_out, volumes or (), retests)


@command(MODELS)
def export(
    output: OutputOption,
    model: AnyModelOption = None,
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="File format.")] = "onnx",
) -> None:
    """Write a model as one ONNX file: prepared scans are then predicted without torch."""
    from brainage.extras import check_extra
    from brainage.workflows.inputs import check_model

    check_model(model)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        check_extra(package, format_)
    from brainage.workflows.export import export as job

    job(model, output)


@command(MODELS)
def register(
    model: ModelOption,
    name: Annotated[str, typer.Option("--name", help="Registered model.")] = "brainage",
    alias: Annotated[
        str, typer.Option("--alias", help="Alias that moves to this version.")
    ] = "champion",
    tracking_uri: TrackingOption = None,
) -> None:
    """Store a trained model in MLflow, so that --model models:/brainage@champion finds it."""
    from brainage.extras import check_extra
    from brainage.workflows.inputs import check_model

    check_model(model)
    check_extra("mlflow", "tracking")
    from brainage.workflows.models import register as job

    job(model, name, alias, tracking_uri)
