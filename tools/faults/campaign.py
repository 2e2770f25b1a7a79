"""Disturb every command and hold it to its promise.

    python -m tools.faults.campaign --output docs/benchmarks/log/faults

The promise, after whatever happened: nothing finished is lost or done twice, no half-written file
is taken for whole, the next run goes on or says in one line what to do, and the final results are
those of an undisturbed run by hash (times, memory and git commit left out). Kills come before each
change of a file that a command makes (`--most` of them, evenly), and at random moments, which are
drawn from `--seed`; each kill is of a run of its own.

Writes OUTPUT.md and OUTPUT.csv, a row for each fault and command.
"""

import argparse
import csv
import os
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.faults.app_kills import APP, strike_app
from tools.faults.commands import COMMANDS, Command, Inputs, build_inputs
from tools.faults.kills import Blow, Reference, strike, undisturbed
from tools.faults.others import FAULTS, Finding
from tools.faults.server import Server

# Children start anew in each of these runs, with all their imports.
SLOW = ("train, 2 processes", "prepare, 2 jobs")
RANDOM = {
    "train, sequential": 42,
    "train, progressive": 42,
    "train, 2 folds": 10,
    "train, 2 processes": 3,
    "compare": 15,
    "prepare": 15,
    "prepare, 2 jobs": 3,
    "predict": 25,
    "report": 10,
    "phantoms": 35,
    APP: 3,
}
_COLUMNS = ("fault", "command", "runs", "moments", "went_on_by", "broken_promises", "examples")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    command: str
    runs: int
    moments: str
    went_on_by: str
    broken_promises: int
    examples: str


def kill_at_changes(
    server: Server, command: Command, inputs: Inputs, reference: Reference, folder: Path, most: int
) -> Iterator[Blow]:
    """Kill before the first, second, … change of a file, or `most` of them in even steps."""
    for at in range(1, reference.changes + 1, -(-reference.changes // most)):
        blow = strike(server, command, inputs, reference, folder / f"at-{at}", at=at)
        if blow is not None:
            yield _told(blow)


def kill_at_random(
    server: Server, command: Command, inputs: Inputs, reference: Reference, folder: Path,
    draws: Iterable[float],
) -> Iterator[Blow]:  # fmt: skip
    """Kill at moments spread over the run; one that comes too late is drawn nearer."""
    for number, draw in enumerate(draws):
        for closer in (1.0, 0.7, 0.5, 0.35):
            after_s = max(0.02, draw * closer * reference.seconds)
            place = folder / f"random-{number}"
            blow = strike(server, command, inputs, reference, place, after_s=after_s)
            if blow is not None:
                yield _told(blow)
                break


def spread(seed: int, name: str, count: int) -> list[float]:
    """Moments from 0 to 1, one in each of `count` equal parts."""
    rng = np.random.default_rng([seed, *name.encode()])
    return [float(value) for value in (np.arange(count) + rng.random(count)) / max(1, count)]


def _told(blow: Blow) -> Blow:
    for problem in blow.broken:
        print(f"{blow.command}, {blow.moment}: {problem}", flush=True)
    return blow


def row_of(fault: str, command: str, blows: list[Blow]) -> Row:
    """Sum up kills."""
    shares = [blow.share for blow in blows]
    moments = f"{min(shares):.0%} to {max(shares):.0%}" if shares else ""
    ways = " or ".join(sorted({blow.resumed for blow in blows}))
    broken = [problem for blow in blows for problem in blow.broken]
    return Row(
        fault, command, len(blows), moments, ways, len(broken), "; ".join(sorted({*broken})[:3])
    )


def row_of_finding(finding: Finding) -> Row:
    """A line of another fault."""
    broken = "; ".join(finding.broken[:3])
    return Row(finding.fault, finding.command, 1, "", finding.outcome, len(finding.broken), broken)


def merge(rows: Iterable[Row]) -> list[Row]:
    """One row for each fault and command, where parts have several."""
    merged: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.fault, row.command)
        merged[key] = _add(merged[key], row) if key in merged else row
    return list(merged.values())


def _add(one: Row, two: Row) -> Row:
    shares = [int(n) for row in (one, two) for n in re.findall(r"(\d+)%", row.moments)]
    ways = {way for row in (one, two) for way in row.went_on_by.split(" or ")}
    return Row(
        one.fault,
        one.command,
        one.runs + two.runs,
        f"{min(shares)}% to {max(shares)}%" if shares else "",
        " or ".join(sorted(ways)),
        one.broken_promises + two.broken_promises,
        "; ".join(filter(None, (one.examples, two.examples))),
    )


def write_table(rows: list[Row], output: Path, seed: int, took: str, note: str) -> None:
    """OUTPUT.csv and OUTPUT.md."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([getattr(row, name) for name in _COLUMNS] for row in rows)
    kills = [row for row in rows if row.fault.startswith("kill")]
    lines = [
        "# Faults",
        "",
        (__doc__ or "").split("\n\n")[2],
        "",
        f"Made by `python -m tools.faults.campaign {_command()}`, seed {seed}, on "
        f"{os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}{took}. "
        f"**{sum(row.runs for row in kills)} kills, {sum(row.broken_promises for row in rows)} "
        "broken promises.** *Moments*: changes of files that were done when the kill came, of all "
        "that an undisturbed run makes.",
        "",
        "| fault | command | runs | moments | goes on by | broken promises |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        broken = f"{row.broken_promises}: {row.examples}" if row.broken_promises else "0"
        cells = (row.fault, row.command, row.runs, row.moments, row.went_on_by, broken)
        lines.append("| " + " | ".join(str(c).replace("|", "/").replace("\n", " ") for c in cells))
        lines[-1] += " |"
    lines += ["", note] if note else []
    output.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _command() -> str:
    """Options of this run; a note or a list of parts would not fit the line."""
    shown, hide = [], False
    for word in sys.argv[1:]:
        hide = word in ("--note", "--join") or (hide and not word.startswith("--"))
        shown += [] if hide else [word]
    return shlex.join(shown)


def read_table(path: Path) -> list[Row]:
    """Rows of a part."""
    with path.open(newline="") as file:
        return [
            Row(
                row["fault"],
                row["command"],
                int(row["runs"]),
                row["moments"],
                row["went_on_by"],
                int(row["broken_promises"]),
                row["examples"],
            )
            for row in csv.DictReader(file)
        ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/log/faults"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a command, a fault, or `others`")
    parser.add_argument("--most", type=int, default=10**6, help="kills at changes of a command")
    parser.add_argument("--kills", type=float, default=1.0, help="share of the random kills")
    parser.add_argument("--note", default="", help="a last paragraph of the page")
    parser.add_argument("--join", type=Path, nargs="+", help="tables of parts, to make one")
    options = parser.parse_args()
    if options.join:
        parts = merge(row for path in options.join for row in read_table(path))
        write_table(parts, options.output, options.seed, ", joined from parts", options.note)
        return
    started, rows = time.monotonic(), list[Row]()
    server, work = Server(), Path(tempfile.mkdtemp(prefix="faults-"))
    inputs = build_inputs(server, work / "inputs")
    for row in disturb(server, inputs, work, options):
        rows.append(row)
        print(row, flush=True)
        took = f", in {(time.monotonic() - started) / 60:.0f} minutes"
        write_table(rows, options.output, options.seed, took, options.note)
    server.close()
    sys.exit(1 if any(row.broken_promises for row in rows) else 0)


def disturb(
    server: Server, inputs: Inputs, work: Path, options: argparse.Namespace
) -> Iterator[Row]:
    """All that the options ask for, a row as soon as it is done."""
    for name, count in RANDOM.items():
        if not options.only or name in options.only:
            draws = spread(options.seed, name, max(1, round(count * options.kills)))
            yield from _kill(server, name, inputs, work, draws, options.most)
    for fault in FAULTS:
        if not options.only or {"others", fault.__name__} & {*options.only}:
            yield from map(row_of_finding, fault(server, inputs, work / "others"))


def _kill(
    server: Server, name: str, inputs: Inputs, work: Path, draws: list[float], most: int
) -> Iterator[Row]:
    if name == APP:
        yield row_of("kill −9 at random moments", name, strike_app(inputs, work, draws))
        return
    command, folder = COMMANDS[name], work / "kills"
    reference = undisturbed(server, command, inputs, folder)
    if reference.direct:
        print(f"{name} writes in place: {reference.direct}", flush=True)
    if name not in SLOW:
        blows = list(kill_at_changes(server, command, inputs, reference, folder, most))
        yield row_of("kill −9 before a change of files", name, blows)
    blows = list(kill_at_random(server, command, inputs, reference, folder, draws))
    yield row_of("kill −9 at random moments", name, blows)


if __name__ == "__main__":
    main()
