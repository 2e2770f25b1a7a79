"""kill −9 in the middle of a command, and what must hold afterwards."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from brainage.files import read_sealed
from tools.faults.commands import Command, Inputs, digest, unfinished, wrong_files
from tools.faults.server import Ended, Run, Server


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run does and gives."""

    changes: int
    seconds: float
    results: dict[str, str]
    direct: list[str]


@dataclass(frozen=True)
class Blow:
    """One kill and what came of it.

    Attributes
    ----------
    share : float
        Changes of files that were done, of those of an undisturbed run.
    broken : list of str
        Promises that did not hold.
    """

    command: str
    moment: str
    share: float
    resumed: str
    broken: list[str]


def undisturbed(
    server: Server, command: Command, inputs: Inputs, folder: Path, times: int = 2
) -> Reference:
    """Run a command some times, and demand the same results."""
    given = []
    for number in range(times):
        place = folder / f"whole-{number}"
        command.start(inputs, place)
        ended = server.run(command.run(inputs, place))
        assert ended.code == 0, ended.output
        given.append(digest(place / "out"))
        shutil.rmtree(place)
    varies = [name for name in given[0] if given[0][name] != given[-1].get(name)]
    assert given[0].keys() == given[-1].keys() and not varies, varies
    return Reference(ended.changes, ended.seconds, given[0], ended.direct)


def strike(
    server: Server,
    command: Command,
    inputs: Inputs,
    reference: Reference,
    folder: Path,
    *,
    at: int = 0,
    after_s: float = 0.0,
) -> Blow | None:
    """Kill a run before its n-th change of files or after some seconds; None if it was over."""
    command.start(inputs, folder)
    try:
        ended = server.run(command.run(inputs, folder, kill_at=at, kill_after_s=after_s))
        if not ended.killed:
            assert ended.code == 0, ended.output
            return None
        moment = f"change {at}" if at else f"{after_s:.2f} s"
        share = min(1.0, (at - 1 if at else ended.changes) / reference.changes)
        resumed, broken = go_on(server, command, inputs, reference, folder)
        if ended.orphans:
            broken.append(f"{ended.orphans} processes outlived it")
        return Blow(command.name, moment, share, resumed, broken)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def go_on(
    server: Server, command: Command, inputs: Inputs, reference: Reference, folder: Path
) -> tuple[str, list[str]]:
    """Look at what a killed run left, run the command again, and compare; the broken promises."""
    broken = [f"taken for whole: {name}" for name in _looked_at(folder, reference)]
    done, epochs = finished(folder), epochs_done(folder)
    again, how = server.run(command.run(inputs, folder)), "same command"
    if command.resumes and again.code == 2:
        broken += _unclear(again, "--resume")
        again, how = server.run(command.run(inputs, folder, "--resume")), "--resume"
    if again.code != 0:
        return how, [*broken, f"does not go on (exit code {again.code}): {again.output[-300:]}"]
    found = digest(folder / "out")
    names = {*found, *reference.results}
    broken += [f"differs: {n}" for n in sorted(names) if found.get(n) != reference.results.get(n)]
    broken += [f"left behind: {name}" for name in unfinished(folder / "out")]
    now, epochs_now = finished(folder), epochs_done(folder)
    broken += [f"done again: {path}" for path, when in done.items() if now.get(path) != when]
    for path, rows in epochs.items():
        if epochs_now.get(path, [])[: len(rows)] != rows:
            broken.append(f"epochs done again: {path}")
    return how, broken


def _looked_at(folder: Path, reference: Reference) -> list[str]:
    out = folder / "out"
    return wrong_files(out, reference.results) if out.exists() else []


def _unclear(ended: Ended, word: str) -> list[str]:
    lines = ended.error_lines
    if len(lines) == 1 and word in lines[0]:
        return []
    return [f"not one clear line: {ended.output[-300:]!r}"]


def finished(folder: Path) -> dict[str, int]:
    """Time stamps of what must not be done twice: prepared scans, and models."""
    paths = [
        *folder.glob("cache/**/record.sealed"),
        *folder.glob("out/**/manifest.json"),
    ]
    kept = [path for path in paths if ".tmp/" not in path.as_posix()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in kept}


def epochs_done(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Epochs in each checkpoint, with their times, which no second training would have."""
    found = {}
    for path in folder.glob("out/**/checkpoint.safetensors"):
        payload = read_sealed(path) or b""
        length = int.from_bytes(payload[:8], "little")
        about = json.loads(payload[8 : 8 + length])["__metadata__"]
        history = json.loads(about["state"])["history"]
        found[path.as_posix()] = [(row["epoch"], row["epoch_seconds"]) for row in history]
    return found


def two_at_once(
    server: Server, command: Command, inputs: Inputs, reference: Reference, folder: Path
) -> list[str]:
    """Start a command twice in one folder: one run gives way in a line, or both give the result."""
    command.start(inputs, folder)
    runs: list[Run] = [command.run(inputs, folder) for _ in range(2)]
    ended = server.run_all(runs)
    broken = []
    if 0 not in [end.code for end in ended]:
        broken.append("neither came to its end")
    for end in ended:
        if end.code != 0:
            broken += _unclear(end, "in use by another run") if end.code == 2 else [end.output]
    if digest(folder / "out") != reference.results:
        broken.append("the result differs")
    shutil.rmtree(folder)
    return broken
