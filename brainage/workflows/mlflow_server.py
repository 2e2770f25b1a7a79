"""`brainage mlflow`: the tracker's pages on the local database, and late uploads."""

import subprocess
from pathlib import Path

from brainage.errors import TrackingError
from brainage.tracking import (
    PENDING_FILE,
    resolve_uri,
    server_command,
    server_environment,
    upload_pending,
)
from brainage.workflows.console import say, warn


def serve(uri: str | None, host: str, port: int) -> int:
    """Serve a local database until Ctrl-C; returns the server's exit code.

    Raises
    ------
    TrackingError
        If the tracker is a server itself, is off, or the database is missing.
    """
    target = resolve_uri(uri, Path.cwd())
    if target is None or not target.startswith("sqlite:///"):
        came = "off" if target is None else "a server, whose pages are at its own address"
        raise TrackingError("--tracking-uri", f"expected a database, got {came}.")
    database = Path(target.removeprefix("sqlite:///")).resolve()
    if not database.exists():
        remedy = "Run `brainage compare` or `train` here, or name one: sqlite:///path/mlflow.db."
        raise TrackingError(str(database), "is not there.", remedy)
    say(f"http://{host}:{port} shows {database}; Ctrl-C ends it")
    command = server_command(target, database.parent / "mlartifacts", host=host, port=port)
    process = subprocess.Popen(command, env=server_environment(), cwd=database.parent)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has sent the interrupt to the server too.
        process.wait()
        return 0


def upload(uri: str | None) -> None:
    """Send the events that wait in this folder.

    Raises
    ------
    TrackingError
        If the tracker is off or fails again; what is left stays.
    """
    folder = Path.cwd()
    if not (folder / PENDING_FILE).exists():
        say(f"nothing waits: there is no {PENDING_FILE} here.")
        return
    sent = upload_pending(folder, uri, on_warning=warn)
    say(f"{sent} events sent")
