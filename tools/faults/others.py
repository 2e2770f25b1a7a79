"""Faults other than kill −9: disks, clocks, trackers, signals, rivals and lost workers."""

import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.faults.commands import COMMANDS, Command, Inputs, digest, unfinished
from tools.faults.cut.sitecustomize import OPENING, VICTIM
from tools.faults.kills import Reference, go_on, two_at_once, undisturbed
from tools.faults.server import Ended, Server

CLOSED_PORT = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Finding:
    """What came of one fault."""

    fault: str
    command: str
    outcome: str
    broken: list[str]


Fault = Callable[[Server, Inputs, Path], Iterator[Finding]]
_references: dict[str, Reference] = {}


def _reference(server: Server, name: str, inputs: Inputs, folder: Path) -> Reference:
    if name not in _references:
        _references[name] = undisturbed(server, COMMANDS[name], inputs, folder)
    return _references[name]


def _one_line(ended: Ended, code: int, *words: str) -> list[str]:
    """Promises that a refusal broke."""
    broken = [] if ended.code == code else [f"exit code {ended.code} instead of {code}"]
    lines = [line for line in ended.error_lines if not line.startswith("warning")]
    told = [line for line in lines if any(word in line for word in words)]
    if len(told) != 1 or any("Traceback" in line for line in lines):
        broken.append(f"not one clear line: {ended.output[-300:]!r}")
    return broken


@contextlib.contextmanager
def _mounted(folder: Path, size: str) -> Iterator[bool]:
    """A small file system of its own; False where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    allowed = _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except OSError:
        return False


def full_disk(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """Output or cache on a disk that fills up, then is made larger."""
    cases = [
        (name, "out", size)
        for name in ("train, sequential", "compare", "prepare")
        for size in ("32k", "80k", "140k")
    ]
    cases += [("predict", "out", "4k"), ("prepare", "cache", "60k"), ("predict", "cache", "40k")]
    cases += [("report", "out", "200k")]
    for name, place, size in cases:
        command, fault = COMMANDS[name], f"disk full ({place}, {size})"
        reference = _reference(server, name, inputs, folder)
        attempt = folder / "full"
        shutil.rmtree(attempt, ignore_errors=True)
        command.start(inputs, attempt)
        with _mounted(attempt / place, size) as allowed:
            if not allowed:
                yield Finding(fault, name, "skipped: mounting is not allowed", [])
            else:
                ended = server.run(command.run(inputs, attempt))
                if ended.code == 0 and digest(attempt / "out") == reference.results:
                    yield Finding(fault, name, "no fault: the disk was large enough", [])
                    continue
                broken = _one_line(ended, 2, "No space left", "cannot be written")
                _mount("-o", "remount,size=64m", str(attempt / place))
                how, more = go_on(server, command, inputs, reference, attempt)
                yield Finding(fault, name, f"one line; then {how}", broken + more)


def read_only(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """Output or cache that may only be read, then may be written."""
    cases = [(name, "out") for name in ("train, sequential", "compare", "prepare", "predict")]
    for name, place in [*cases, ("report", "out"), ("prepare", "cache"), ("predict", "cache")]:
        command, fault = COMMANDS[name], f"read-only {place}"
        reference = _reference(server, name, inputs, folder)
        attempt = folder / "read-only"
        command.start(inputs, attempt)
        with _mounted(attempt / place, "64m") as allowed:
            if not allowed:
                yield Finding(fault, name, "skipped: mounting is not allowed", [])
            else:
                _mount("-o", "remount,ro", str(attempt / place))
                ended = server.run(command.run(inputs, attempt))
                broken = _one_line(ended, 2, "Read-only", "cannot be written")
                _mount("-o", "remount,rw", str(attempt / place))
                how, more = go_on(server, command, inputs, reference, attempt)
                yield Finding(fault, name, f"one line; then {how}", broken + more)
        shutil.rmtree(attempt)


def truncated(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """A scan that is cut short while it is read, then is whole again."""
    command, own, attempt = COMMANDS["prepare"], Inputs(folder / "cut-inputs"), folder / "cut"
    shutil.copytree(inputs.folder / "cohort", own.folder / "cohort")
    reference = undisturbed(server, command, own, folder, times=1)
    victim = Path(own.scans(1)[0])
    scan_id, whole = victim.name.split("_")[0], victim.read_bytes()
    for opening in range(1, 7):
        environment = {VICTIM: str(victim), OPENING: str(opening)}
        plan = "tools.faults.plans:truncate_while_read"
        command.start(own, attempt)
        ended = server.run(command.run(own, attempt, plan=plan, environment=environment))
        is_cut = len(victim.read_bytes()) < len(whole)
        told = [line for line in ended.error_lines if scan_id in line]
        broken = []
        if (ended.code and len(told) != 1) or "Traceback" in ended.output:
            broken.append(f"not one clear line: {ended.output[-300:]!r}")
        good = len(list((attempt / "out").rglob("*desc-preproc_T1w.nii.gz")))
        outcome = f"exit code {ended.code}, {good} of 2 scans written" if is_cut else "not opened"
        victim.write_bytes(whole)
        again = server.run(command.run(own, attempt))
        if again.code != 0 or digest(attempt / "out") != reference.results:
            broken.append(f"differs afterwards: {again.output[-200:]}")
        outcome += "; then same command" if is_cut else ""
        yield Finding(f"scan cut short at its opening {opening}", "prepare", outcome, broken)
        shutil.rmtree(attempt)


def tracker_down(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """No server behind --tracking-uri, or a database that cannot be written."""
    name = "train, sequential"
    reference = _reference(server, name, inputs, folder)
    for uri in (CLOSED_PORT, "sqlite:////proc/nowhere/mlflow.db"):
        attempt = folder / "tracker"
        COMMANDS[name].start(inputs, attempt)
        ended = server.run(COMMANDS[name].run(inputs, attempt, "--tracking-uri", uri))
        broken = [] if ended.code == 0 else [f"exit code {ended.code}: {ended.output[-300:]}"]
        warned = [line for line in ended.error_lines if line.startswith("warning")]
        if len(warned) != 1 or "--upload" not in warned[0]:
            broken.append(f"not one warning: {warned}")
        pending = attempt / "mlflow-pending.jsonl"
        events = [json.loads(line)["event"] for line in pending.read_text().splitlines()]
        if digest(attempt / "out") != reference.results:
            broken.append("the result differs")
        where = uri.split(":")[0]
        outcome = f"one warning, {len(events)} events kept, same result"
        yield Finding(f"tracker down ({where})", name, outcome, broken)
        shutil.rmtree(attempt)


def clock_jumps(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """A clock that jumps ten years back and forth at every look."""
    for name in ("train, sequential", "train, progressive", "compare", "prepare", "predict"):
        reference, command = _reference(server, name, inputs, folder), COMMANDS[name]
        attempt = folder / "clock"
        command.start(inputs, attempt)
        ended = server.run(command.run(inputs, attempt, plan="tools.faults.plans:jump_in_time"))
        broken = [] if ended.code == 0 else [f"exit code {ended.code}: {ended.output[-300:]}"]
        if digest(attempt / "out") != reference.results:
            broken.append("the result differs")
        yield Finding("clock jumps ±10 years", name, "same result", broken)
        shutil.rmtree(attempt)


def rivals(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """Two runs into one folder at once."""
    for name in ("train, sequential", "train, 2 folds", "compare", "prepare", "predict", "report"):
        reference = _reference(server, name, inputs, folder)
        broken = two_at_once(server, COMMANDS[name], inputs, reference, folder / "rivals")
        yield Finding("two runs at once", name, "same result; one may give way in a line", broken)


def lost_worker(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """One of several processes is killed, as a system that is out of memory would."""
    cases = (
        ("prepare, 2 jobs", "prepare", "was killed"),
        ("train, 2 processes", "train, sequential", "--resume"),
    )
    for name, same, words in cases:
        reference, command = _reference(server, same, inputs, folder), COMMANDS[name]
        attempt = folder / "lost"
        command.start(inputs, attempt)
        ended = server.run(command.run(inputs, attempt, plan="tools.faults.plans:lose_a_worker"))
        broken = [] if ended.code == 2 else [f"exit code {ended.code}"]
        if words not in ended.output or "Traceback" in ended.output:
            broken.append(f"not clear: {ended.output[-300:]}")
        single = COMMANDS[same]  # the same bits on one process, and cheaper
        if single.warm:
            how, more = go_on(server, single, inputs, reference, attempt)
        else:
            again, how, more = server.run(single.run(inputs, attempt)), "same command", []
            if again.code or digest(attempt / "out") != reference.results:
                more = [f"differs afterwards: {again.output[-200:]}"]
        yield Finding("a worker is lost", name, f"says so; then {how}", broken + more)
        shutil.rmtree(attempt)


def signals(server: Server, inputs: Inputs, folder: Path) -> Iterator[Finding]:
    """SIGINT and SIGTERM in the middle of a run."""
    names = ("train, sequential", "train, progressive", "compare", "prepare", "predict", "report")
    for name in names:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            reference, command = _reference(server, name, inputs, folder), COMMANDS[name]
            yield _signalled(server, command, inputs, reference, folder / "signal", number, code)


def _signalled(
    server: Server, command: Command, inputs: Inputs, reference: Reference, attempt: Path,
    number: int, code: int,
) -> Finding:  # fmt: skip
    command.start(inputs, attempt)
    at = max(1, reference.changes // 2)
    ended = server.run(command.run(inputs, attempt, kill_at=at, number=int(number)))
    broken = _one_line(ended, code, "nothing finished is lost")
    broken += [f"left behind: {name}" for name in unfinished(attempt)]
    how, more = go_on(server, command, inputs, reference, attempt)
    shutil.rmtree(attempt)
    name = signal.Signals(number).name
    return Finding(name, command.name, f"exit code {code}; then {how}", broken + more)


FAULTS: tuple[Fault, ...] = (
    signals,
    full_disk,
    read_only,
    truncated,
    tracker_down,
    clock_jumps,
    rivals,
    lost_worker,
)
