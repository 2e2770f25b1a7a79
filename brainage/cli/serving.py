"""Commands on the experiment tracker: `mlflow` and `register`."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import DebugOption, ModelOption, TrackingOption


def mlflow(
    tracking_uri: TrackingOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")] = 5000,
    upload: Annotated[
        bool,
        typer.Option("--upload", help="Send what waits in ./mlflow-pending.jsonl, and end."),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Show the experiments in the browser, or send what an unreachable tracker missed."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import mlflow_server as job

        if upload:
            job.upload(tracking_uri)
        else:
            raise typer.Exit(job.serve(tracking_uri, host, port))


def register(
    model: ModelOption,
    name: Annotated[str, typer.Option("--name", help="Registered model.")] = "brainage",
    alias: Annotated[
        str, typer.Option("--alias", help="Alias that moves to this version.")
    ] = "champion",
    tracking_uri: TrackingOption = None,
    debug: DebugOption = False,
) -> None:
    """Store a trained model in MLflow, so that --model models:/brainage@champion finds it."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows.models import register as job

        job(Path(model), name, alias, tracking_uri)
