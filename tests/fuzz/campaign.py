"""Feed damaged inputs to every reader and hold it to its promise.

    python -m tests.fuzz.campaign --inputs 10000 --output fuzz

The promise: a result or a `BrainageError`; never another exception, a crash, more than 10 s, more
than 1 GB over the baseline, or a file outside the input's own folder. Input N of a reader is drawn
from seed N alone: `--only READER --first N --inputs 1` repeats a find. What broke a promise is
kept under OUTPUT; the table goes to OUTPUT/campaign.md.
"""

import argparse
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from brainage.errors import BrainageError
from tests.fuzz.mutate import damage
from tests.fuzz.targets import TARGETS, Target

SECONDS = 10.0
MEGABYTES = 1024.0
CORPUS = Path(__file__).parent / "corpus"


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    most_mb: float = 0.0
    broken: list[dict[str, object]] = field(default_factory=list)


def draw(target: Target, number: int, seeds: list[dict[str, bytes]]) -> dict[str, bytes]:
    """Input `number` of a reader: one of its healthy inputs, damaged."""
    rng = np.random.default_rng(number)
    return target.mend(damage(seeds[int(rng.integers(len(seeds)))], rng))


def attempt(target: Target, files: Mapping[str, bytes], folder: Path) -> str:
    """Give an input to its reader: "read", "refused", or how the promise was broken."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    before = _listing(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder)
        outcome = "read"
    except BrainageError as error:
        outcome = "refused"
        if any(
            not line.startswith("  ") for line in str(error).splitlines()[1:]
        ):  # rows of a table
            outcome = f"message of several lines: {str(error)[:200]!r}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {str(error)[:200]}"
    if _listing(folder) != before:
        outcome = "files were written or removed"
    return outcome


def run_corpus_case(name: str, case: Path) -> str:
    """Repeat a kept case."""
    files = {path.name: path.read_bytes() for path in case.iterdir()}
    with tempfile.TemporaryDirectory() as folder:
        return attempt(TARGETS[name], files, Path(folder))


def run_target(name: str, first: int, inputs: int, output: Path) -> Tally:
    """All inputs of a reader, in child processes that may die."""
    target, tally, number = TARGETS[name], Tally(), first
    seeds = target.seeds()
    while number < first + inputs:
        number = _run_child(name, target, seeds, range(number, first + inputs), tally)
    for case in tally.broken:
        folder = output / "broken" / name / str(case["number"])
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in draw(target, int(str(case["number"])), seeds).items():
            (folder / file).write_bytes(content)
    return tally


def _run_child(
    name: str, target: Target, seeds: list[dict[str, bytes]], numbers: range, tally: Tally
) -> int:
    """One child works through `numbers` until it ends or is lost; returns where to go on."""
    shared = mmap.mmap(-1, 16)  # number of the input at work, and when it began
    shared[:] = struct.pack("qd", numbers.start, time.monotonic())
    with tempfile.TemporaryFile("w+") as rows:
        child = os.fork()
        if child == 0:
            _work(target, seeds, numbers, shared, rows)
        lost = _watch(child, shared)
        rows.seek(0)
        for line in rows:
            _count(json.loads(line), tally)
    at, _ = struct.unpack("qd", shared[:])
    if lost:
        tally.inputs += 1
        tally.broken.append({"number": at, "outcome": lost})
        print(f"{name} {at}: {lost}", flush=True)
    return int(at) + 1


def _work(
    target: Target, seeds: list[dict[str, bytes]], numbers: range, shared: mmap.mmap, rows: TextIO
) -> None:
    os.setsid()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, limit))
    sandbox = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(sandbox)
    baseline = _peak_mb()
    for number in numbers:
        shared[:] = struct.pack("qd", number, time.monotonic())
        start = time.monotonic()
        with tempfile.TemporaryDirectory(dir=sandbox) as folder:
            outcome = attempt(target, draw(target, number, seeds), Path(folder))
        more_mb = _peak_mb() - baseline
        if more_mb > MEGABYTES:
            outcome = f"{more_mb:.0f} MB over the baseline"
        if list(sandbox.iterdir()):
            outcome = "left temporary files behind"
        row = {"number": number, "outcome": outcome, "s": time.monotonic() - start, "mb": more_mb}
        print(json.dumps(row), file=rows, flush=True)
        if outcome not in ("read", "refused"):
            break  # a fresh child, so that one find does not hide the next
    shutil.rmtree(sandbox, ignore_errors=True)
    os._exit(0)


def _watch(child: int, shared: mmap.mmap) -> str:
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "" if status == 0 else f"the process died (status {status})"
        _, began = struct.unpack("qd", shared[:])
        if time.monotonic() - began > 3 * SECONDS:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"still at work after {3 * SECONDS:.0f} s"
        time.sleep(0.02)


def _count(row: dict[str, object], tally: Tally) -> None:
    tally.inputs += 1
    seconds, outcome = float(str(row["s"])), str(row["outcome"])
    tally.slowest_s = max(tally.slowest_s, seconds)
    tally.most_mb = max(tally.most_mb, float(str(row["mb"])))
    if outcome in ("read", "refused") and seconds > SECONDS:
        outcome = f"took {seconds:.1f} s"
    if outcome == "read":
        tally.read += 1
    elif outcome == "refused":
        tally.refused += 1
    else:
        tally.broken.append({"number": row["number"], "outcome": outcome})
        print(f"input {row['number']}: {outcome}", flush=True)


def _peak_mb() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_size) for path in folder.rglob("*"))


def table(tallies: Mapping[str, Tally]) -> str:
    """Markdown table of the campaign."""
    lines = [
        "| reader | inputs | read | refused | broken promises | slowest s | MB over baseline |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, tally in tallies.items():
        lines.append(
            f"| {name} | {tally.inputs} | {tally.read} | {tally.refused} | {len(tally.broken)} "
            f"| {tally.slowest_s:.1f} | {tally.most_mb:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="of each reader")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=sorted(TARGETS), action="append")
    parser.add_argument("--output", type=Path, default=Path("fuzz"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    tallies: dict[str, Tally] = {}
    for name in options.only or TARGETS:
        print(f"{name}: {options.inputs} inputs", flush=True)
        tallies[name] = run_target(name, options.first, options.inputs, options.output)
        (options.output / "campaign.md").write_text(table(tallies), encoding="utf-8")
    print(table(tallies))
    kinds = Counter(str(c["outcome"])[:60] for t in tallies.values() for c in t.broken)
    for kind, count in kinds.most_common():
        print(f"{count} × {kind}")
    sys.exit(1 if kinds else 0)


if __name__ == "__main__":
    main()
