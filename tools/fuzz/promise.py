"""The promise of a reader, held against one input: a result or one clear line, and no more."""

import os
import resource
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from brainage.errors import BrainageError
from tools.fuzz.target import Files, Target, put

SECONDS = 10.0
MEGABYTES = 1024.0
KEPT = ("read", "refused")


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    most_mb: float = 0.0
    broken: list[dict[str, object]] = field(default_factory=list)

    def count(self, number: int, outcome: str, seconds: float, more_mb: float) -> None:
        """Take in one input."""
        self.inputs += 1
        self.slowest_s = max(self.slowest_s, seconds)
        self.most_mb = max(self.most_mb, more_mb)
        self.read += outcome == "read"
        self.refused += outcome == "refused"
        if outcome not in KEPT:
            self.broken.append({"number": number, "outcome": outcome})


def attempt(target: Target, folder: Path) -> str:
    """Let a reader read a folder: "read", "refused", or how the promise was broken."""
    before = _listing(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder)
        outcome = "read"
    except BrainageError as error:
        outcome = "refused"
        # Rows of a table are listed below the first line.
        if any(not line.startswith("  ") for line in str(error).splitlines()[1:]):
            outcome = f"message of several lines: {str(error)[:200]!r}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {str(error)[:200]}"
    if _listing(folder) != before:
        outcome = "files were written or removed"
    return outcome


class Trial:
    """Tries inputs one after another in a sandbox, under the promise's bounds.

    Parameters
    ----------
    sandbox : pathlib.Path
        Empty folder; the input at work lies in ``input``, the reader's temporary files in
        ``temporary``, where none may be left.
    kept : pathlib.Path
        Where inputs go that broke a promise.
    count : callable
        Receives number, outcome, seconds of processor, and megabytes over the baseline.
    """

    def __init__(
        self,
        target: Target,
        sandbox: Path,
        kept: Path,
        count: Callable[[int, str, float, float], None],
    ) -> None:
        self.target, self.kept, self.count = target, kept, count
        self.folder, self.temporary = sandbox / "input", sandbox / "temporary"
        self.temporary.mkdir()
        tempfile.tempdir = str(self.temporary)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, limit))
        self.baseline = peak_mb()

    def __call__(self, number: int, files: Files) -> str:
        """Try one input."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        put(files, self.folder)
        left, start = set(self.temporary.iterdir()), cpu_s()
        outcome = attempt(self.target, self.folder)
        seconds, more_mb = cpu_s() - start, peak_mb() - self.baseline
        if more_mb > MEGABYTES:
            outcome = f"{more_mb:.0f} MB over the baseline"
        elif seconds > SECONDS:
            outcome = f"took {seconds:.1f} s"
        elif not left >= set(self.temporary.iterdir()):
            outcome = "left temporary files behind"
        if outcome not in KEPT:
            keep(self.folder, self.kept / str(number))
        self.count(number, outcome, seconds, more_mb)
        return outcome


def keep(folder: Path, kept: Path) -> None:
    """Copy an input that broke a promise."""
    shutil.rmtree(kept, ignore_errors=True)
    if folder.is_dir():
        shutil.copytree(folder, kept)


def cpu_s() -> float:
    """Seconds of processor of this process and its ended children: others cannot slow them."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mb() -> float:
    """Largest memory of this process or an ended child."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_size) for path in folder.rglob("*"))
