"""Serve the page, or the tracker's pages on the local database; send what a tracker missed."""

import os
import subprocess
import sys
from pathlib import Path

from brainage.errors import TrackingError
from brainage.extras import check_extra
from brainage.files import shipped_folder
from brainage.tracking import (
    PENDING_FILE,
    resolve_uri,
    server_command,
    server_environment,
    upload_pending,
)
from brainage.workflows.console import say, warn

# Freed memory goes back to the system; the C library reads these when a program starts.
_MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}


def serve_app(host: str, port: int, hosts: list[str], orientation: str = "") -> None:
    """Become the page's server, so that signals reach it.

    Parameters
    ----------
    hosts : list of str
        Names by which browsers may call, besides local ones.
    orientation : str
        ``radiological`` or ``neurological``, of all pictures; empty: as BRAINAGE_ORIENTATION says,
        else radiological.

    Raises
    ------
    MissingExtraError
        If Streamlit is not installed.
    """
    check_extra("streamlit", "app")
    check_extra("typst", "report")
    shown = "127.0.0.1" if host == "0.0.0.0" else host
    say(f"Open http://{shown}:{port} in a browser; Ctrl-C ends the page")
    command = [sys.executable, str(shipped_folder("app") / "serve.py"), "--host", host]
    command += ["--port", str(port)]
    command += [part for name in hosts for part in ("--allow-host", name)]
    command += ["--orientation", orientation] if orientation else []
    path = os.pathsep.join(part for part in sys.path if part)
    os.execve(sys.executable, command, {**_MEMORY, **os.environ, "PYTHONPATH": path})


def serve_mlflow(uri: str | None, host: str, port: int) -> int:
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
