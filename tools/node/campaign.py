"""Send studies through a real node into a real Orthanc, with two kills and a full disk.

    python -m tools.node.campaign --heads HEADS --output docs/benchmarks/log/node.md

The promise: every study with a usable T1 has exactly one SR and one PDF in the archive, under its
own patient and study; every other study is a line of the ledger and has none; `dciodvfy` finds no
error in what was made. Meanwhile the node gets `kill -9` twice, in the middle of an association and
in the middle of sending results, and its disk runs full. The sender is `storescu`, which sends a
study again where it was refused or broken off, as scanners do.

Needs Orthanc, dcmtk and dicom3tools (Debian), and the right to mount a tmpfs for the queue.
"""

import argparse
import contextlib
import csv
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from brainage.node.intake import SUCCESS, UNREADABLE
from brainage.node.spool import code
from tests.node_helpers import call, send_bytes
from tools.node.stand import NodeProcess, Orthanc, wait_for
from tools.node.studies import Study, make_studies, read_object
from tools.pages import write_below_mark

SENDERS = 3
QUEUE_MB = 1024
QUIET_S = 4.0
_WAIT_S = 600.0
_TRIES = 60
_WANTED = {str(Comprehensive3DSRStorage), str(EncapsulatedPDFStorage)}


class Sender:
    """Sends studies until the node has taken them.

    Attributes
    ----------
    again : int
        Deliveries that were refused or broken off, and sent again.
    """

    def __init__(self, node: NodeProcess) -> None:
        self._node, self.again = node, 0

    def deliver(self, study: Study) -> None:
        """Send one study; its damaged objects first, over the same association or their own."""
        send = self._send_damaged if study.damaged else self._send_whole
        for _ in range(_TRIES):
            if send(study):
                return
            self.again += 1
            time.sleep(1.0)
        raise TimeoutError(f"{study.kind} was not taken")

    def _send_whole(self, study: Study) -> bool:
        command = ["storescu", "-aet", "SCANNER", "-aec", "BRAINAGE", "-to", "20", "-td", "30"]
        command += ["127.0.0.1", str(self._node.port), *map(str, study.files())]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        return said.returncode == 0 and "Failed" not in said.stdout + said.stderr

    def _send_damaged(self, study: Study) -> bool:
        """Send objects as they are, the damaged ones first."""
        objects = [*study.damaged, *(read_object(path) for path in study.files())]
        with call(self._node.port) as association:
            if not association.is_established:
                return False
            answers = [send_bytes(association, content, uid) for uid, content in objects]
        count = len(study.damaged)
        return set(answers[:count]) == {UNREADABLE} and set(answers[count:]) <= {SUCCESS}


@dataclass
class Campaign:
    """Node and archive at work."""

    node: NodeProcess
    archive: Orthanc
    sender: Sender
    told: list[str] = field(default_factory=list)
    sent: list[Future[None]] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Tell how far it is."""
        self.told.append(line)
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    def run(self, studies: Sequence[Study]) -> None:
        """Send all studies, and disturb the node between."""
        third = max(1, len(studies) // 3)
        with ThreadPoolExecutor(SENDERS) as pool:
            for disturb, part in (
                (self._kill_receiving, studies[:third]),
                (self._fill_disk, studies[third : 2 * third]),
                (self._kill_sending, studies[2 * third :]),
            ):
                disturb(partial(self._submit, pool, part))
                while self.sent:
                    self.sent.pop().result()
                self.say(f"sent {len(part)} studies")
        folders = [self.node.queue / name for name in ("incoming", "working", "outgoing")]
        wait_for(
            lambda: not any(any(folder.iterdir()) for folder in folders),
            _WAIT_S * max(1, len(studies) / 10),
            "the queue is empty",
        )

    def _submit(self, pool: ThreadPoolExecutor, part: Sequence[Study]) -> None:
        self.sent += [pool.submit(self.sender.deliver, study) for study in part]

    def _kill_receiving(self, submit: Callable[[], None]) -> None:
        """Kill while a study is coming in that has more to come."""
        submit()
        incoming = self.node.queue / "incoming"
        wait_for(lambda: [p for p in incoming.iterdir() if 10 < _count(p) < 40], _WAIT_S,
                 "a study comes in", 0.001)  # fmt: skip
        counts = sorted(_count(path) for path in incoming.iterdir())
        self.node.kill()
        self.say(f"kill −9 while studies came in ({counts} objects)")
        self.node.start()

    def _fill_disk(self, submit: Callable[[], None]) -> None:
        """Fill the disk until objects are refused and a prediction waits, then make room."""
        ballast, log = self.node.queue / "ballast", self.node.log
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while stream.write(bytes(2**16)) == 2**16:
                pass
        submit()
        wait_for(lambda: _said(log, "objects are refused", "disk is full"), _WAIT_S, "refusals")
        wait_for(lambda: _said(log, "work: waits"), _WAIT_S, "work waits")
        time.sleep(QUIET_S)
        self.say(f"disk full ({', '.join(line for line in _lines(log) if 'disk is full' in line)})")
        ballast.unlink()

    def _kill_sending(self, submit: Callable[[], None]) -> None:
        """Kill when the archive has some results of a study, and not all."""
        submit()
        outgoing = self.node.queue / "outgoing"
        wait_for(lambda: [p for p in outgoing.iterdir() if len(list(p.glob("*.dcm"))) in (1, 2)],
                 _WAIT_S, "results are half sent", 0.0005)  # fmt: skip
        self.node.kill()
        left = [len(list(path.glob("*.dcm"))) for path in outgoing.iterdir()]
        self.say(f"kill −9 while results were sent ({left} of 3 left)")
        self.node.start()


def _count(study: Path) -> int:
    return len(list(study.glob("objects/*.dcm")))


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def _said(log: Path, *words: str) -> bool:
    return any(all(word in line for word in words) for line in _lines(log))


@contextlib.contextmanager
def mounted(folder: Path, size_mb: int) -> Iterator[Path]:
    """A small disk of its own."""
    folder.mkdir()
    options = f"size={size_mb}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def find_errors(archive: Orthanc, folder: Path) -> list[str]:
    """Lines of `dciodvfy` that tell an error, over all that the archive has."""
    errors = []
    for instance in archive.get("instances"):
        path = folder / f"{instance}.dcm"
        path.write_bytes(archive.read(f"instances/{instance}/file"))
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        lines = (said.stdout + said.stderr).splitlines()
        errors += [line for line in lines if line.startswith("Error")]
    return errors


def judge(study: Study, found: list[dict[str, Any]], lines: list[dict[str, str]]) -> list[str]:
    """Return what is wrong with a study's results and lines of the ledger."""
    kinds = [one["SOPClassUID"] for one in found]
    wrong = [
        f"{one['PatientID']} instead of {study.patient}"
        for one in found
        if (one["PatientID"], one["PatientName"]) != (study.patient, study.name)
    ]
    counts = {kind: kinds.count(kind) for kind in _WANTED}
    if any(count != int(study.is_usable) for count in counts.values()):
        wrong.append(f"results: {counts}")
    if not study.is_usable and found:
        wrong.append(f"{len(found)} results of no T1")
    outcomes = {line["outcome"] for line in lines}
    if "sent" not in outcomes if study.is_usable else outcomes != {"refused"}:
        wrong.append(f"ledger: {sorted(outcomes)}")
    return wrong


def read_archive(archive: Orthanc) -> dict[str, list[dict[str, Any]]]:
    """Return tags of all that the archive has, by Study Instance UID."""
    found = defaultdict(list)
    for instance in archive.get("instances"):
        tags = archive.get(f"instances/{instance}/simplified-tags")
        found[tags["StudyInstanceUID"]].append(tags)
    return found


def tabulate(studies: Sequence[Study], archive: Orthanc, ledger: Path) -> tuple[str, list[str]]:
    """Return a row for each kind of study, and what is wrong."""
    found, lines = read_archive(archive), defaultdict(list)
    with ledger.open(newline="") as stream:
        for line in csv.DictReader(stream):
            lines[line["study"]].append(line)
    rows: dict[str, list[int]] = {}
    wrong = [f"{uid} is no study" for uid in set(found) - {study.uid for study in studies}]
    for study in studies:
        first = study.damaged[0][0] if study.damaged else ""
        names = {code(study.uid), *([] if study.files() else [code(first)])}
        own = [line for name in names for line in lines[name]]
        problems = judge(study, found[study.uid], own)
        wrong += [f"{study.kind}: {problem}" for problem in problems]
        kinds = [one["SOPClassUID"] for one in found[study.uid]]
        counts = [1, *(kinds.count(kind) for kind in sorted(_WANTED)), len(own), bool(problems)]
        row = rows.setdefault(study.kind, [0] * len(counts))
        rows[study.kind] = [one + more for one, more in zip(row, counts, strict=True)]
    text = "| study | sent | PDF | SR | lines of the ledger | wrong |\n|---|---|---|---|---|---|\n"
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    return text + "".join(
        f"| {kind} | {' | '.join(map(str, row))} |\n" for kind, row in rows.items()
    ), wrong


def run_campaign(heads: Sequence[Path], count: int, work: Path) -> tuple[str, list[str]]:
    """Run it in a folder; returns the text for the page, and what is wrong."""
    studies = make_studies(work / "studies", heads, count)
    archive = Orthanc(work / "archive")
    options = ["--quiet", str(QUIET_S), "--map", "none", "--keep-free-mb", "4"]
    start = time.monotonic()
    with mounted(work / "queue", QUEUE_MB) as queue:
        node = NodeProcess(queue, archive.port, work / "node.log", options)
        try:
            campaign = Campaign(node, archive, Sender(node))
            campaign.run(studies)
            memory = node.status()["VmHWM"] // 1024
            rows, wrong = tabulate(studies, archive, queue / "ledger.csv")
            wrong += find_errors(archive, work)
        finally:
            node.process.kill()
            (work / "ledger.csv").write_bytes((queue / "ledger.csv").read_bytes())
            archive.close()
    took = (time.monotonic() - start) / 60
    told = f"{campaign.sender.again} deliveries were refused or broken off and sent again. "
    told += f"{took:.0f} minutes, {memory} MB at most. Wrong: {len(wrong)}."
    told = textwrap.fill(f"In turn: {', '.join(campaign.told)}. {told}", 100)
    return f"{rows}\n{told}\n", wrong


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, required=True, help="folder of T1 as NIfTI")
    parser.add_argument("--most-heads", type=int, default=6)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--output", type=Path, required=True, help="page that gets the table")
    options = parser.parse_args()
    heads = sorted(options.heads.rglob("*.nii.gz"))[: options.most_heads]
    work = Path(tempfile.mkdtemp(prefix="node-"))
    print(f"work in {work}", flush=True)
    text, wrong = run_campaign(heads, options.studies, work)
    write_below_mark(options.output, text)
    print(text, *wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
