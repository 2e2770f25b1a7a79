"""What all commands share on the terminal: output, progress, options and errors."""

import contextlib
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from brainage.errors import BrainageError, ConfigError
from brainage.files import default_cache as default_cache

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

BAD_INPUT = 2
INTERRUPTED = 130


@contextlib.contextmanager
def clear_errors(debug: bool) -> Iterator[None]:
    """Print a user's error as one line and leave with code 2; an interrupt leaves with 130."""
    try:
        yield
    except BrainageError as error:
        if debug:
            raise
        err.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        if debug:
            raise
        err.print("interrupted; nothing finished is lost.", markup=False)
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def scan_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar over scans; yields the function to call with (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def bytes_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each download; yields the function to call with (name, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name)
            progress.update(tasks[name], completed=done, total=total or None)

        yield show


def say(text: str) -> None:
    """Print a line for the person."""
    out.print(text, markup=False)


def warn(text: str) -> None:
    """Print a warning beside the output."""
    err.print(f"warning: {text}", style="yellow", markup=False)


def parse_pairs(pairs: list[str], option: str) -> dict[str, str]:
    """Turn ["age=AgeAtScan"] into a mapping.

    Raises
    ------
    ConfigError
        If an item is not NAME=VALUE.
    """
    parsed = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ConfigError(option, f"expected NAME=VALUE, got {pair!r}.")
        parsed[name.strip()] = value.strip()
    return parsed
