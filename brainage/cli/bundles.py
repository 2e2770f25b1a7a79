"""Commands on trained models: `release` and `register`."""

from typing import Annotated

import typer

from brainage.cli.command import MODELS, command
from brainage.cli.options import ModelOption, OutputOption, TrackingOption


@command(MODELS)
def release(
    model: ModelOption,
    output: OutputOption,
    note: Annotated[str, typer.Option("--note", help="A line for the model card.")] = "",
) -> None:
    """Make a trained model small enough to travel: half precision, and a self-test."""
    from brainage.workflows.inputs import check_model

    check_model(model)
    from brainage.workflows import release as job

    job.release(model, output, note)


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
