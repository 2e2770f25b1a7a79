"""Commands that serve pages: `app` and `mlflow`."""

from typing import Annotated, Literal

import typer

from brainage.cli.command import SERVING, command
from brainage.cli.options import PortOption, TrackingOption


@command(SERVING)
def app(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: PortOption = 8501,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Name by which browsers may call; also BRAINAGE_HOSTS."),
    ] = None,
    orientation: Annotated[
        Literal["radiological", "neurological"] | None,
        typer.Option(
            "--orientation",
            help="Patient's left on the right, or on the left; also BRAINAGE_ORIENTATION.",
            show_default="radiological",
        ),
    ] = None,
) -> None:
    """Serve the page for people with a scan and no command line. Models: BRAINAGE_MODELS."""
    from brainage.workflows.serve import serve_app

    serve_app(host, port, allow_host or [], orientation or "")


@command(SERVING)
def mlflow(
    tracking_uri: TrackingOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: PortOption = 5000,
    upload: Annotated[
        bool,
        typer.Option("--upload", help="Send what waits in ./mlflow-pending.jsonl, and end."),
    ] = False,
) -> None:
    """Show the experiments in the browser, or send what an unreachable tracker missed."""
    from brainage.extras import check_extra

    check_extra("mlflow", "tracking")
    from brainage.workflows import serve as job

    if upload:
        job.upload(tracking_uri)
    else:
        raise typer.Exit(job.serve_mlflow(tracking_uri, host, port))
