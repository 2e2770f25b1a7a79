"""Show output, progress and errors of commands on the terminal; a Python caller sees none of it.

`clear_errors`, which every command runs in, switches the terminal on. Without it `say` and the
progress bars are silent, and `warn` is a Python warning.
"""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FrameType

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
from brainage.log_lines import LogLines
from brainage.types import LedgerEntry

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

# Whether a command of the command line is running; see `clear_errors`.
_terminal = False

BAD_INPUT = 2
INTERRUPTED, TERMINATED = 130, 143
_INTERRUPTED_LINE = "interrupted; nothing finished is lost."
_SHOW_CURSOR = "\x1b[?25h"


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler or a container sends before SIGKILL."""


@contextlib.contextmanager
def clear_errors(debug: bool) -> Iterator[None]:
    """Print a user's error as one line and leave with code 2.

    An interrupt leaves with 130, SIGTERM with 143; both end the run as an exception would, so that
    child processes and the tracker learn of it. Another one meanwhile ends it at once.
    """
    before = is_shown()
    show_output()
    _listen(_stop)
    try:
        yield
    except BrainageError as error:
        if debug:
            raise
        err.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        err.print(_INTERRUPTED_LINE, markup=False)
        _listen(_leave)
        terminated = isinstance(interrupt, _Terminated)
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
    except BrokenPipeError:
        # What read the output has gone; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (OSError, MemoryError) as error:
        # The system's, not the program's: a full disk, a folder that may not be written.
        if debug:
            raise
        err.print(f"error: {_explain(error)}", style="red", markup=False)
        raise typer.Exit(BAD_INPUT) from None
    finally:
        # A program that calls commands in its own process stays as quiet as it was.
        show_output(before)


def run_as_command(main: Callable[[], int | None]) -> int:
    """Run a module's main function in `clear_errors`; returns the exit code."""
    try:
        with clear_errors(debug=False):
            return main() or 0
    except typer.Exit as end:
        return end.exit_code


def _listen(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have both signals handled, unless the parent process wants one ignored."""
    with contextlib.suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    _listen(_leave_with_a_line)
    raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _leave_with_a_line(number: int, frame: FrameType | None) -> None:
    # Not by the console: the first signal may have come while it held its lock.
    cursor = _SHOW_CURSOR if os.isatty(2) else ""
    os.write(2, f"{cursor}{_INTERRUPTED_LINE}\n".encode())
    _leave(number, frame)


def _leave(number: int, frame: FrameType | None) -> None:
    """End as kill −9 would: nothing finished is lost by that either."""
    os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)


def _explain(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory. Use fewer scans, a coarser grid or a smaller batch."
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}. Check the path, its permissions and the free disk."


@contextlib.contextmanager
def scan_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar over scans, or lines in a log; yields the function to call with (done, total)."""
    if _terminal and not (err.is_terminal or err.is_jupyter):
        lines = LogLines(partial(err.print, markup=False, highlight=False))
        lines.tell(title, 0, None)
        yield lambda done, total: lines.tell(title, done, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not _terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def bytes_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each download; yields the function to call with (name, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    with Progress(*columns, console=err, transient=True, disable=not _terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name)
            progress.update(tasks[name], completed=done, total=total or None)

        yield show


def show_output(shown: bool = True) -> None:
    """Switch the output of this process on or off."""
    global _terminal
    _terminal = shown


def is_shown() -> bool:
    """Return whether output is switched on."""
    return _terminal


def say(text: str) -> None:
    """Print a line, where a command is running."""
    if _terminal:
        out.print(text, markup=False)


def warn(text: str) -> None:
    """Print a warning beside the output; for a Python caller, warn as Python does."""
    if _terminal:
        err.print(f"warning: {text}", style="yellow", markup=False)
    else:
        warnings.warn(text, UserWarning, stacklevel=3)


def tell_entries(entries: Iterable[LedgerEntry]) -> None:
    """Print a line for each scan that is not simply ok: its id, verdict and reasons."""
    for entry in entries:
        if entry.verdict not in ("ok", "surplus"):
            warn(f"{entry.scan_id}: {entry.verdict}: {entry.reason}")
        elif entry.reason:
            say(f"{entry.scan_id}: {entry.reason}")


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
