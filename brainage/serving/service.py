"""Predictions in child processes: two at once, the rest in line, none left behind.

A job has a folder of its own in a private temporary directory. It is deleted once the page has
taken the result, when the job is cancelled, and when its page is gone.
"""

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from brainage.sandbox.parent import Child
from brainage.scans.open import refuse_content
from brainage.serving.memory import give_back_memory
from brainage.serving.names import RESULT, STAGES, TASK, WARM
from brainage.serving.settings import ServerLimits
from brainage.types import Json

State = Literal["waiting", "running", "done", "refused", "broken", "cancelled"]
PREFIX = "brainage-app-"
FINISHED: tuple[State, ...] = ("done", "refused", "broken", "cancelled")


class ServiceFullError(Exception):
    """The line is too long."""


@dataclass(eq=False)
class Job:
    """One scan on its way to a result.

    Attributes
    ----------
    task : str
        Function that the child runs.
    shown : str
        Name for the reader of the page; nothing else uses it.
    state : str
        waiting, running, done, refused (the scan cannot be used), broken (the process was lost)
        or cancelled.
    reason : str
        Why it was refused or broke.
    result : dict
        The report's words and numbers, once done.
    files : dict of str to bytes
        What the child wrote: report, pictures, volumes.
    seconds : list
        Name and seconds of each stage.
    """

    folder: Path
    argument: Json
    alive: Callable[[], bool]
    task: str = ""
    shown: str = ""
    state: State = "waiting"
    reason: str = ""
    result: Json = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    seconds: list[tuple[str, float]] = field(default_factory=list)
    submitted: float = field(default_factory=time.monotonic)
    left_alone: float | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINISHED

    def forget(self) -> None:
        """Drop what is known of the scan, once no page will show it again."""
        self.shown, self.result, self.files = "", {}, {}

    def stage(self) -> str:
        """Stage at work, as far as the child has told."""
        return str(self._told().get("now", ""))

    def stages(self) -> list[tuple[str, float]]:
        """Names and seconds of the stages behind it, as far as the child has told."""
        return [(str(name), float(s)) for name, s in self._told().get("done", [])]

    def _told(self) -> Json:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / STAGES).read_text()))
        return {}


class Service:
    """Runs jobs, a thread and a child process for each place.

    Parameters
    ----------
    limits : ServerLimits
        Places, line and bounds of a child.
    model : callable, optional
        Bundle to load into waiting children.
    """

    def __init__(
        self, limits: ServerLimits, model: Callable[[], Path | None] = lambda: None
    ) -> None:
        self._limits, self._model = limits, model
        self._line: list[Job] = []
        self._running: dict[Job, Child] = {}
        self._changed = threading.Condition()
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._closed = False
        for _ in range(limits.predictions):
            threading.Thread(target=self._work, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(
        self, content: bytes, argument: Json, alive: Callable[[], bool], task: str = ""
    ) -> Job:
        """Put a scan in line; a task that is named here takes a moment and goes to the front.

        What begins like no scan is refused at once and never stands in the line.

        Parameters
        ----------
        content : bytes
            The uploaded file. What it is decides its content: its name is not used.
        alive : callable
            Whether somebody still waits for the result.

        Raises
        ------
        ServiceFullError
            If the line is too long.
        """
        refused = "" if task else refuse_content(content)
        if refused:
            return Job(self._folder / "none", argument, alive, state="refused", reason=refused)
        with self._changed:
            if len(self._line) >= self._limits.waiting:
                raise ServiceFullError
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        name = f"scan{suffix_of(content)}"
        (folder / name).write_bytes(content)
        job = Job(folder, {**argument, "folder": str(folder), "scan": name}, alive, task or TASK)
        with self._changed:
            self._line.insert(0 if task else len(self._line), job)
            self._changed.notify()
        return job

    def place(self, job: Job) -> int:
        """How many jobs wait before this one, itself included; 0 if it does not wait."""
        with self._changed:
            return self._line.index(job) + 1 if job in self._line else 0

    def cancel(self, job: Job) -> None:
        """Stop a job and delete what it had."""
        with self._changed:
            if job.finished:
                return
            job.state = "cancelled"
            child = self._running.get(job)
            if job in self._line:
                self._line.remove(job)
                shutil.rmtree(job.folder, ignore_errors=True)
            if child is not None:
                # Under the lock: a moment later the child may be at somebody else's scan.
                child.kill()

    def close(self) -> None:
        """Stop everything."""
        with self._changed:
            self._closed = True
            jobs = [*self._line, *self._running]
            self._changed.notify_all()
        for job in jobs:
            self.cancel(job)
        shutil.rmtree(self._folder, ignore_errors=True)

    def counts(self) -> tuple[int, int]:
        """Jobs at work and in line."""
        with self._changed:
            return len(self._running), len(self._line)

    def _work(self) -> None:
        child = Child(self._limits.child)
        self._warm(child)
        while (job := self._next(child)) is not None:
            outcome = child.run(job.task, job.argument)
            self._finish(job, outcome.result, outcome.problem)
            # A killed child must not meet the next scan; a look has read headers only.
            if job.state == "cancelled" or (not self._line and job.task == TASK):
                # The queue is empty: a fresh process gives the memory back and keeps no scan.
                child.close()
                self._warm(child)
        child.close()

    def _warm(self, child: Child) -> None:
        if not self._closed and (model := self._model()) is not None:
            child.run(WARM, {"model": str(model)})

    def _next(self, child: Child) -> Job | None:
        with self._changed:
            while not self._line and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            job = self._line.pop(0)
            job.state = "running"
            self._running[job] = child
            return job

    def _finish(self, job: Job, result: Mapping[str, object] | None, problem: str) -> None:
        try:
            files, words = {}, {}
            if result is not None and not result["refused"]:
                words = json.loads((job.folder / RESULT).read_text(encoding="utf-8"))
                files = {path.name: path.read_bytes() for path in job.folder.iterdir()}
                files = {name: data for name, data in files.items() if not name.startswith("scan")}
        except (OSError, ValueError) as error:
            result, problem = None, f"its result could not be read ({type(error).__name__})"
        shutil.rmtree(job.folder, ignore_errors=True)
        with self._changed:
            del self._running[job]
            if job.state == "cancelled":
                return
            if result is None:
                job.state, job.reason = "broken", problem
                return
            job.seconds = [(str(name), float(s)) for name, s in result["seconds"]]  # type: ignore[attr-defined]
            job.reason = str(result["refused"])
            job.result, job.files = words, files
            job.state = "refused" if job.reason else "done"

    def _watch(self) -> None:
        """Cancel jobs whose page has been gone for a while; give memory back after the last."""
        busy = False
        while not self._closed:
            time.sleep(1.0)
            with self._changed:
                jobs = [*self._line, *self._running]
                for job, child in self._running.items():
                    if job.state == "cancelled":  # before its process was up to be killed
                        child.kill()
            if busy and not jobs:
                give_back_memory()
            busy = bool(jobs)
            for job in jobs:
                if job.alive():
                    job.left_alone = None
                elif job.left_alone is None:
                    job.left_alone = time.monotonic()
                elif time.monotonic() - job.left_alone > self._limits.away_s:
                    self.cancel(job)


def suffix_of(content: bytes) -> str:
    """Return what a file is by its first bytes, as the end of a name."""
    if content[:2] == b"\x1f\x8b":
        return ".nii.gz"
    if content[128:132] == b"DICM":
        return ".dcm"
    return ".zip" if content[:4] == b"PK\x03\x04" else ".nii"


def _sweep() -> None:
    """Delete what servers left behind that were killed and could not do so themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
