"""A line for every study that came: what became of it, and nothing of the patient."""

import csv
import errno
import io
import os
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

# sent: results are in the archive; refused: no T1 that can be used; broken: the program failed;
# unsent: the archive refused the results.
Outcome = Literal["sent", "refused", "broken", "unsent"]


@dataclass(frozen=True)
class Line:
    """What became of a study.

    Attributes
    ----------
    study : str
        First 32 digits of the SHA-256 of its Study Instance UID.
    outcome : {"sent", "refused", "broken", "unsent"}
        See the module.
    objects : int
        Objects that came.
    results : int
        Objects that the archive took.
    reason : str
        Why not, or what there is to say.
    job : str
        Names this delivery of the study: one line each.
    """

    study: str
    outcome: Outcome
    objects: int
    results: int
    reason: str
    job: str


class Ledger:
    """A table that grows by whole lines, one for each job, whatever ends the process.

    Parameters
    ----------
    path : pathlib.Path
        CSV file; a last line that a full disk or a kill cut off is taken away.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: set[str] = set()
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as stream:
                stream.truncate(len(whole))
        if not whole:
            self._append(_row(["time", *(field.name for field in fields(Line))]))
        for row in csv.reader(io.StringIO(whole.decode("utf-8", "replace"))):
            self._jobs.update(row[-1:])

    def __contains__(self, job: str) -> bool:
        return job in self._jobs

    def add(self, line: Line) -> None:
        """Add a line, unless its job has one.

        Raises
        ------
        OSError
            If there is no room; then nothing of the line is left.
        """
        if line.job not in self._jobs:
            time = datetime.now(UTC).isoformat(timespec="seconds")
            self._append(_row([time, *map(str, astuple(line))]))
            self._jobs.add(line.job)

    def _append(self, data: bytes) -> None:
        with self._path.open("ab", buffering=0) as stream:
            before = stream.seek(0, os.SEEK_END)
            try:
                written = stream.write(data)
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(before)
                raise
            if written != len(data):
                stream.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


def _row(values: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(" ".join(value.split()) for value in values)
    return text.getvalue().encode()
