"""The `brainage` command: one module a panel of its help."""

import io
import sys
from typing import Annotated

import typer

from brainage import __version__
from brainage.cli import scans as _scans  # noqa: F401, I001  the order of imports is the help's
from brainage.cli import cohorts as _cohorts  # noqa: F401
from brainage.cli import learning as _learning  # noqa: F401
from brainage.cli import research as _research  # noqa: F401
from brainage.cli import models as _models  # noqa: F401
from brainage.cli import serving as _serving  # noqa: F401
from brainage.cli.command import app


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"brainage {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """How old does this brain look? Research use only, never a diagnosis."""


def main() -> None:
    """Run the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode, or a file name that is none, must not end a command.
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
