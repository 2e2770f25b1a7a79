"""The `brainage` command: one module a panel of its help."""

import io
import sys
from importlib import import_module
from typing import Annotated

import typer

from brainage import __version__
from brainage.cli.command import app

for _name in ("scans", "cohorts", "learning", "research", "bundles", "serving"):
    import_module(f"brainage.cli.{_name}")  # registers its commands, in the order of the help


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
