"""What a reader is, for the campaign."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from brainage.errors import BrainageError

Files = Mapping[str, bytes]
Mend = Callable[[dict[str, bytes]], dict[str, bytes]]


def _same(files: dict[str, bytes]) -> dict[str, bytes]:
    return files


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    seeds : callable
        Healthy inputs: named files each, most readers get one.
    read : callable
        Reads the files of an input from a folder; may raise nothing but a `BrainageError`.
    mend : callable
        Makes checksums right again after damage, so that damage reaches what lies behind them.
    guided : str
        The file that the coverage-guided fuzzer writes; empty: its inputs would not get past a
        checksum, or a child process reads them.
    """

    seeds: Callable[[], list[dict[str, bytes]]]
    read: Callable[[Path], object]
    mend: Mend = field(default=_same)
    guided: str = ""


def read_all(*readings: Callable[[], object]) -> None:
    """Do all readings, also after one was refused; then pass on the last refusal."""
    refusal: BrainageError | None = None
    for reading in readings:
        try:
            reading()
        except BrainageError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def files_below(folder: Path) -> dict[str, bytes]:
    """Content of every file by its path below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def put(files: Files, folder: Path) -> None:
    """Write an input's files below a folder; a name that the file system refuses is left out."""
    for name, content in files.items():
        try:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (OSError, ValueError):
            continue
