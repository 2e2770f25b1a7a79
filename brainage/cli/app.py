"""The command `app`."""

from typing import Annotated

import typer

from brainage.cli.options import DebugOption


def app(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")] = 8501,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Name by which browsers may call; also BRAINAGE_HOSTS."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Serve the page for people with a scan and no command line. Models: BRAINAGE_MODELS."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        import os
        import sys

        from brainage.files import shipped_folder
        from brainage.workflows.console import say

        shown = "127.0.0.1" if host == "0.0.0.0" else host
        say(f"http://{shown}:{port} shows the page; Ctrl-C ends it")
        names = [part for name in allow_host or [] for part in ("--allow-host", name)]
        command = [sys.executable, str(shipped_folder("app") / "serve.py"), "--host", host]
        command += ["--port", str(port), *names]
        path = os.pathsep.join(part for part in sys.path if part)
        # In place of this process, so that signals reach the server.
        # Freed memory goes back to the system; the C library reads these when a program starts.
        memory = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
        os.execve(sys.executable, command, {**memory, **os.environ, "PYTHONPATH": path})
