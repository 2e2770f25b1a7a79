"""Feed damaged inputs to every reader and hold it to its promise.

    python -m tools.fuzz.campaign --inputs 10000 --output fuzz

The promise: a result or a `BrainageError`; never another exception, a crash, more than 10 s of
processor, more than 1 GB over the baseline, or a file outside the input's own folder. Inputs come
in three ways:

damage      bytes of healthy inputs flipped, cut, repeated; input N is drawn from seed N alone
structure   the right form with extreme content, by Hypothesis (`structure.py`)
guided      bytes chosen by what they reach in the code, by atheris (`guided.py`)

What broke a promise is kept under OUTPUT, counts in OUTPUT/counts.json; `--table PAGE` writes them
below the mark of a page.
"""

import argparse
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import numpy as np

from tools.fuzz.mutate import damage
from tools.fuzz.promise import KEPT, SECONDS, Tally, Trial, attempt, keep
from tools.fuzz.structure import STRUCTURES
from tools.fuzz.target import Files, Target, put
from tools.fuzz.targets import TARGETS
from tools.pages import write_below_mark

CORPUS = Path(__file__).parent / "corpus"
WAYS = ("damage", "structure", "guided")
PATIENCE, LOOK_S = 12, 0.02

Feed = Callable[[range, Callable[[int, Files], bool]], None]


def draw(target: Target, number: int, seeds: list[dict[str, bytes]]) -> dict[str, bytes]:
    """Input `number` of a reader: one of its healthy inputs, damaged."""
    rng = np.random.default_rng(number)
    return target.mend(damage(seeds[int(rng.integers(len(seeds)))], rng))


def run_corpus_case(name: str, case: Path) -> str:
    """Repeat a kept case."""
    files = {p.relative_to(case).as_posix(): p.read_bytes() for p in case.rglob("*") if p.is_file()}
    with tempfile.TemporaryDirectory() as folder:
        put(files, Path(folder))
        return attempt(TARGETS[name], Path(folder))


def feed_damage(target: Target) -> Feed:
    """Hand on inputs until one breaks a promise."""
    seeds = target.seeds()

    def feed(numbers: range, handle: Callable[[int, Files], bool]) -> None:
        for number in numbers:
            if not handle(number, draw(target, number, seeds)):
                return

    return feed


def feed_structure(name: str) -> Feed:
    """Hand on what Hypothesis makes from the first number as seed, until a promise is broken."""
    import hypothesis

    TARGETS[name].seeds()  # made once, here, and not in each child

    class Found(BaseException):
        """Ends Hypothesis, which would look for a smaller example."""

    def feed(numbers: range, handle: Callable[[int, Files], bool]) -> None:
        left = iter(numbers)

        @hypothesis.seed(numbers.start)
        @hypothesis.settings(
            max_examples=len(numbers),
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(STRUCTURES[name]())
        def run(files: Files) -> None:
            number = next(left, None)
            if number is not None and not handle(number, files):
                raise Found

        try:
            run()
        except Found:
            return

    return feed


def run_target(name: str, way: str, first: int, inputs: int, output: Path) -> Tally:
    """All inputs of a reader, in child processes that may die."""
    kept = output / "broken" / f"{name}-{way}"
    if way == "guided":
        return _run_guided(name, inputs, kept)
    target, tally, number = TARGETS[name], Tally(), first
    feed = feed_damage(target) if way == "damage" else feed_structure(name)
    while number < first + inputs:
        number = _run_child(target, feed, range(number, first + inputs), tally, kept)
    return tally


def _run_child(target: Target, feed: Feed, numbers: range, tally: Tally, kept: Path) -> int:
    """One child works through `numbers` until it ends or is lost; returns where to go on."""
    shared = mmap.mmap(-1, 8)  # number of the input at work
    shared[:] = struct.pack("q", numbers.start)
    with (
        tempfile.TemporaryFile("w+") as rows,
        tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as sandbox,
    ):
        child = os.fork()
        if child == 0:
            _work(target, feed, numbers, shared, rows, Path(sandbox), kept)
        lost = _watch(child, shared)
        (at,) = struct.unpack("q", shared[:])
        rows.seek(0)
        for line in rows:
            tally.count(*json.loads(line))
        if lost:
            keep(Path(sandbox) / "input", kept / str(at))
            tally.count(int(at), lost, 0.0, 0.0)
    return int(at) + 1


def _work(
    target: Target,
    feed: Feed,
    numbers: range,
    shared: mmap.mmap,
    rows: TextIO,
    sandbox: Path,
    kept: Path,
) -> None:
    os.setsid()
    trial = Trial(target, sandbox, kept, lambda *row: print(json.dumps(row), file=rows, flush=True))

    def handle(number: int, files: Files) -> bool:
        shared[:] = struct.pack("q", number)
        # After a find a fresh child goes on, so that one find does not hide the next.
        return trial(number, files) in KEPT

    feed(numbers, handle)
    os._exit(0)


def _watch(child: int, shared: mmap.mmap) -> str:
    """Wait for the child's end, or for an input that takes too many looks at it.

    Looks, not the clock: a machine that was held up meanwhile must not count.
    """
    at, looks = b"", 0
    while looks * LOOK_S < PATIENCE * SECONDS:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "" if status == 0 else f"the process died (status {status})"
        # Beside other work, a second of processor may take many by the clock.
        at, looks = shared[:], (looks + 1 if shared[:] == at else 0)
        time.sleep(LOOK_S)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"still at work after {PATIENCE * SECONDS:.0f} s"


def _run_guided(name: str, inputs: int, kept: Path) -> Tally:
    """atheris ends the process it runs in: it gets one of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as sandbox:
        command = [sys.executable, "-m", "tools.fuzz.guided", name, str(inputs), sandbox, str(kept)]
        log = Path(sandbox) / "log.txt"
        with log.open("wb") as stream:
            status = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
        try:
            tally = Tally(**json.loads((Path(sandbox) / "tally.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            sys.exit(log.read_text(errors="replace")[-3000:])
        if status:
            keep(Path(sandbox) / "input", kept / str(tally.inputs))
            tally.count(tally.inputs, f"the process died (status {status})", 0.0, 0.0)
    return tally


def table(counts: Mapping[str, Mapping[str, object]]) -> str:
    """Markdown table of counts by ``reader way``."""
    lines = [
        "| reader | inputs by | inputs | read | refused | broken promises | slowest s "
        "| MB over baseline |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in sorted(counts, key=lambda key: (list(TARGETS).index(key.split()[0]), key)):
        tally = Tally(**counts[key])  # type: ignore[arg-type]
        name, way = key.split()
        lines.append(
            f"| {name} | {way} | {tally.inputs} | {tally.read} | {tally.refused} "
            f"| {len(tally.broken)} | {tally.slowest_s:.1f} | {tally.most_mb:.0f} |"
        )
    return "\n".join(lines) + "\n"


def choose(only: Iterable[str] | None, way: str) -> list[str]:
    """Readers that have inputs of a way."""
    able = {
        "damage": list(TARGETS),
        "structure": list(STRUCTURES),
        "guided": [name for name, target in TARGETS.items() if target.guided],
    }[way]
    return [name for name in able if only is None or name in only]


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="of each reader and way")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=sorted(TARGETS), action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--output", type=Path, default=Path("fuzz"))
    parser.add_argument("--table", type=Path, help="write the counts so far into this page")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "counts.json"
    counts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if options.table is not None:
        write_below_mark(options.table, table(counts))
        return
    kinds: Counter[str] = Counter()
    for way in options.way or WAYS:
        for name in choose(options.only, way):
            start = time.monotonic()
            tally = run_target(name, way, options.first, options.inputs, options.output)
            counts[f"{name} {way}"] = asdict(tally)
            path.write_text(json.dumps(counts, indent=1), encoding="utf-8")
            print(f"{name} {way}: {tally.inputs} in {time.monotonic() - start:.0f} s", flush=True)
            for case in tally.broken:
                print(f"  input {case['number']}: {case['outcome']}", flush=True)
                kinds[f"{name}: {str(case['outcome'])[:80]}"] += 1
    print(table(counts))
    for kind, count in kinds.most_common():
        print(f"{count} × {kind}")
    sys.exit(1 if kinds else 0)


if __name__ == "__main__":
    main()
