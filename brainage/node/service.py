"""The node at work: one thread listens, one predicts, one sends."""

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainage.errors import BrainageError
from brainage.files import atomic_write_text
from brainage.node.ledger import Ledger, Line, Outcome
from brainage.node.limits import MB, NodeLimits
from brainage.node.peers import Destination
from brainage.node.receive import Listening, Receiver
from brainage.node.send import RefusedError, UnreachableError, send_files
from brainage.node.spool import Spool
from brainage.sandbox.parent import Child
from brainage.sandbox.parent import Outcome as TaskOutcome
from brainage.types import Json

TASK = "brainage.node.study:examine_study"
LEDGER = "ledger.csv"
_FACTS = "facts.json"
# Ends of the node while it was at one study, after which the study is given up.
_MOST_ATTEMPTS = 3
# Refusals by the archive after which results are given up; what is unreachable is awaited for ever.
_MOST_REFUSALS = 5
_IN_PART = "came in part: its sender broke off or was refused, and did not send it again"
_NOTHING_KEPT = (
    "none of its objects could be kept: damaged, announced under another UID, or no room for them "
    "(where none tells its study, it is named by the first object's UID)"
)
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0


@dataclass(frozen=True)
class NodeSettings:
    """What a node is.

    Attributes
    ----------
    listening : Listening
        Where it listens, and to whom.
    destination : Destination
        Where results go.
    queue : pathlib.Path
        Folder of the queue and the ledger.
    argument : dict
        What `task` gets besides folders: see `brainage.node.study.examine_study`.
    send_tls : bool
        Whether it calls the archive over TLS.
    limits : NodeLimits
        Bounds.
    task : str
        ``module:name`` of the function that a child process runs.
    """

    listening: Listening
    destination: Destination
    queue: Path
    argument: Json
    send_tls: bool = False
    limits: NodeLimits = field(default_factory=NodeLimits)
    task: str = TASK


@dataclass
class _Patience:
    """When the archive is tried again with a job, and how often it has refused it."""

    next: float = 0.0
    wait_s: float = _SHORTEST_WAIT_S
    refusals: int = 0


class Node:
    """A node that is open from `run_node`'s begin to its end.

    Parameters
    ----------
    settings : NodeSettings
        What it is.
    spool : Spool
        Queue, held.
    tell : callable
        Gets lines for the log: nothing of a patient.
    """

    def __init__(self, settings: NodeSettings, spool: Spool, tell: Callable[[str], None]) -> None:
        self._settings, self._spool, self._tell = settings, spool, tell
        self._ledger = Ledger(settings.queue / LEDGER)
        self._child = Child(settings.limits.child)
        self._patience: dict[str, _Patience] = {}
        self._stopped = threading.Event()
        self._said = {"work": "", "send": ""}
        self._receiver = Receiver(settings.listening, spool, settings.limits, tell)
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, step), daemon=True)
            for name, step in (("work", self._work), ("send", self._send))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def port(self) -> int:
        """Port that it listens at."""
        return self._receiver.port

    def close(self) -> None:
        """Stop; what is not finished is on disk and goes on with the next start."""
        self._stopped.set()
        self._receiver.close()
        self._child.kill()
        for thread in self._threads:
            thread.join()
        self._child.close()

    def _repeat(self, name: str, step: Callable[[], None]) -> None:
        while not self._stopped.wait(min(1.0, self._settings.limits.quiet_s / 4)):
            try:
                step()
            except (OSError, BrainageError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                self._say_once(name, f"waits: {getattr(cause, 'strerror', None) or 'no disk'}")
            except Exception as error:  # the others go on; its words might name a patient
                self._say_once(name, f"stopped at a {type(error).__name__}; tries again")

    def _say_once(self, name: str, line: str) -> None:
        """Tell a state when it begins, not every second."""
        if line and line != self._said[name]:
            self._tell(f"{name}: {line}")
        self._said[name] = line

    def _work(self) -> None:
        spool = self._spool
        for job in spool.take():
            self._tell(f"study {_study(job)}: taken, {_count(spool.objects(job))} objects")
        for job in spool.jobs(spool.working):
            if self._stopped.is_set():
                return
            if job in self._ledger or (spool.outgoing / job).exists():
                spool.remove(job, spool.working)
            elif spool.free_bytes() < self._settings.limits.keep_free_mb * MB // 2:
                self._say_once("work", "waits: the disk is full")
                return
            else:
                self._examine(job)

    def _examine(self, job: str) -> None:
        spool = self._spool
        objects = _count(spool.objects(job))
        if not spool.is_whole(job):
            reason = _IN_PART if objects else _NOTHING_KEPT
            self._finish(job, spool.working, "refused", objects, 0, reason)
            return
        if spool.begin(job) > _MOST_ATTEMPTS:
            reason = f"the node was ended {_MOST_ATTEMPTS} times while it was at this study"
            self._finish(job, spool.working, "broken", objects, 0, reason)
            return
        results = spool.draft(job)
        folders = {"objects": str(spool.objects(job)), "results": str(results)}
        task = {**self._settings.argument, **folders, "study": _study(job)}
        self._settle(job, objects, self._child.run(self._settings.task, task))

    def _settle(self, job: str, objects: int, outcome: TaskOutcome) -> None:
        spool, result = self._spool, outcome.result or {}
        full = spool.free_bytes() < self._settings.limits.keep_free_mb * MB // 2
        later = result.get("later") or ("the disk is full" if full else "")
        if self._stopped.is_set():
            return  # the child was ended, not by its study
        if "done" in result:
            facts = {"objects": objects, "reason": result["done"]}
            facts["results"] = _count(spool.temporary / job)
            atomic_write_text(spool.temporary / job / _FACTS, json.dumps(facts))
            spool.commit(job)
        elif later:
            spool.postpone(job)
            self._say_once("work", f"waits: {later}")
            return
        elif outcome.result is None:
            # Behind a colon stand words of a library, which may quote a header.
            reason = outcome.problem.partition(":")[0]
            self._finish(job, spool.working, "broken", objects, 0, reason)
        else:
            self._finish(job, spool.working, "refused", objects, 0, result["refused"])
        self._say_once("work", "")

    def _send(self) -> None:
        spool = self._spool
        for job in spool.jobs(spool.outgoing):
            patience = self._patience.setdefault(job, _Patience())
            if self._stopped.is_set():
                return
            if job in self._ledger:
                spool.remove(job, spool.outgoing)
            elif time.monotonic() >= patience.next:
                self._send_job(job, patience)

    def _send_job(self, job: str, patience: _Patience) -> None:
        settings, folder = self._settings, self._spool.outgoing / job
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        files = sorted(folder.glob("*.dcm"))
        tls = settings.listening.certificates if settings.send_tls else None
        try:
            if files:
                send_files(files, settings.listening.title, settings.destination, tls)
        except UnreachableError as error:
            self._say_once("send", f"results wait: {settings.destination} {error}")
        except RefusedError as error:
            patience.refusals += 1
            self._say_once("send", f"results wait: {settings.destination} {error}")
            if patience.refusals >= _MOST_REFUSALS:
                left = facts["results"] - _count(folder)
                reason = f"the archive {error}; {facts['reason']}"
                self._finish(job, self._spool.outgoing, "unsent", facts["objects"], left, reason)
                return
        else:
            self._say_once("send", "")
            numbers = facts["objects"], facts["results"]
            self._finish(job, self._spool.outgoing, "sent", *numbers, facts["reason"])
            return
        patience.next = time.monotonic() + patience.wait_s
        patience.wait_s = min(2 * patience.wait_s, _LONGEST_WAIT_S)

    def _finish(
        self, job: str, folder: Path, outcome: Outcome, objects: int, results: int, reason: str
    ) -> None:
        """Write the study's line, then let it go: a kill in between leaves the line alone."""
        self._ledger.add(Line(_study(job), outcome, objects, results, reason, job))
        self._spool.remove(job, folder)
        self._patience.pop(job, None)
        self._tell(f"study {_study(job)}: {outcome}")


@contextlib.contextmanager
def run_node(settings: NodeSettings, tell: Callable[[str], None]) -> Iterator[Node]:
    """Run a node as long as this lasts.

    Raises
    ------
    BrainageError
        If queue or port cannot be had.
    ConfigError
        If a certificate cannot be loaded.
    """
    before = threading.excepthook
    spool = Spool(settings.queue, settings.limits)
    with spool.hold(), warnings.catch_warnings():
        # Warnings and tracebacks of threads quote what a peer has sent.
        warnings.simplefilter("ignore")
        threading.excepthook = _say_nothing
        try:
            node = Node(settings, spool, tell)
            try:
                yield node
            finally:
                node.close()
        finally:
            threading.excepthook = before


def _say_nothing(error: Any) -> None:
    """Swallow what a thread of a damaged association died of: its connection is closed."""


def _study(job: str) -> str:
    return job.partition("-")[0]


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.dcm"))
