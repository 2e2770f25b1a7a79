"""The node's queue on disk: what has come, what is at work, what waits to be sent.

``incoming/STUDY`` collects objects; a study that is whole is renamed to ``working/JOB``; results
are renamed to ``outgoing/JOB``. Each step is one rename, so a kill at any moment leaves a study in
one of them. Names are hashes of UIDs.
"""

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from brainage.errors import BrainageError
from brainage.files import atomic_write_bytes, hold_folder, is_disk_full, sha256_bytes
from brainage.node.limits import MB, NodeLimits

OBJECTS = "objects"
# Names of objects of a study that could not be kept, for the next start.
_LOST = "lost"
# In a study of which nothing is missing, as far as its senders have said.
_WHOLE = "whole"
_ATTEMPTS = "attempts"
_DIGITS = 32
# Studies that come in at a time, and objects of one that are noted as lost: bounds for memory.
_MOST_STUDIES, _MOST_LOST = 10_000, 20_000


class NoRoomError(Exception):
    """An object cannot be kept: the disk or a limit is full."""


def code(uid: str) -> str:
    """Name a UID by a hash, for folders, ledger and log."""
    return sha256_bytes(uid.encode())[:_DIGITS]


@dataclass
class _Study:
    """A study that is coming in.

    Attributes
    ----------
    size : int
        Bytes of its objects.
    last : float
        When the last object came, by a clock that is never set.
    senders : set of int
        Associations that are open and have sent some of it.
    is_whole : bool
        Whether its marker stands.
    broken_off : bool
        Whether a sender went without a release, and none has sent since.
    lost : set of str
        Objects that could not be kept.
    """

    size: int = 0
    last: float = field(default_factory=time.monotonic)
    senders: set[int] = field(default_factory=set)
    is_whole: bool = False
    broken_off: bool = False
    lost: set[str] = field(default_factory=set)


class Spool:
    """Queue on disk.

    Parameters
    ----------
    folder : pathlib.Path
        Of this node alone, while it runs.
    limits : NodeLimits
        Sizes and quiet time.
    """

    def __init__(self, folder: Path, limits: NodeLimits) -> None:
        self._limits = limits
        self.folder = folder
        self.incoming, self.working = folder / "incoming", folder / "working"
        self.outgoing, self.temporary = folder / "outgoing", folder / "temporary"
        self._lock = threading.Lock()
        self._studies: dict[str, _Study] = {}
        self._others = 0  # bytes of what is no longer coming in

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Have the queue to oneself; what a killed process left half done is removed.

        Raises
        ------
        BrainageError
            If another node has it, or the folder cannot be used.
        """
        with hold_folder(self.folder, "--queue"):
            shutil.rmtree(self.temporary, ignore_errors=True)
            try:
                for part in (self.incoming, self.working, self.outgoing, self.temporary):
                    part.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                problem = f"cannot be used as queue ({error.strerror})."
                raise BrainageError(str(self.folder), problem, "Choose another --queue.") from error
            for path in self.incoming.iterdir():
                is_whole, lost = (path / _WHOLE).exists(), path / _LOST
                names = {one.name for one in lost.iterdir()} if lost.exists() else set()
                self._studies[path.name] = _Study(_size(path), is_whole=is_whole, lost=names)
            yield

    def store(self, study_uid: str, instance_uid: str, content: bytes, sender: int) -> str:
        """Keep an object, whole or not at all; returns the study's name.

        Raises
        ------
        NoRoomError
            If the disk, the study or the queue is full.
        """
        key, name = code(study_uid), f"{code(instance_uid)}.dcm"
        path = self.incoming / key / OBJECTS / name
        with self._lock:
            if key not in self._studies and len(self._studies) >= _MOST_STUDIES:
                raise NoRoomError("too many studies are coming in")
            study = self._studies.setdefault(key, _Study())
            study.senders.add(sender)
            study.last, study.is_whole, study.broken_off = time.monotonic(), False, False
            problem = self._find_lack(study, len(content))
            study.size += 0 if problem else len(content)
        if not problem:
            try:
                (self.incoming / key / _WHOLE).unlink(missing_ok=True)
                old = path.stat().st_size if path.exists() else 0
                atomic_write_bytes(path, content)
            except (OSError, BrainageError) as error:
                problem = "the disk is full" if is_disk_full(error) else "the disk cannot be used"
                old = len(content)
            with self._lock:
                study.size -= old
                study.last = time.monotonic()
        if problem:
            self.lose(key, name, sender)
            raise NoRoomError(problem)
        with self._lock:
            for other, one in self._studies.items():  # also one that was taken to have lost it
                if name in one.lost:
                    one.lost.discard(name)
                    one.senders.add(sender)
                    with contextlib.suppress(OSError):
                        (self.incoming / other / _LOST / name).unlink(missing_ok=True)
        return key

    def _find_lack(self, study: _Study, size: int) -> str:
        if size > self._limits.object_mb * MB:
            return "an object is too large"
        if study.size + size > self._limits.study_mb * MB:
            return "a study is too large"
        held = self._others + sum(one.size for one in self._studies.values())
        if held + size > self._limits.queue_mb * MB:
            return "the queue is full"
        if self.free_bytes() - size < self._limits.keep_free_mb * MB:
            return "the disk is full"
        return ""

    def free_bytes(self) -> int:
        """Bytes that are free on the queue's disk."""
        return shutil.disk_usage(self.folder).free

    def lose(self, key: str, name: str, sender: int) -> None:
        """Note that an object of a study could not be kept: without it the study is not whole."""
        with self._lock:
            if key not in self._studies and len(self._studies) >= _MOST_STUDIES:
                return
            study = self._studies.setdefault(key, _Study())
            study.senders.add(sender)
            study.last, study.is_whole = time.monotonic(), False
            if is_noted := len(study.lost) < _MOST_LOST:
                study.lost.add(name)
        with contextlib.suppress(OSError):  # what stands on disk is what the next start knows
            (self.incoming / key / OBJECTS).mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.incoming / key / _WHOLE).unlink(missing_ok=True)
            if is_noted:
                (self.incoming / key / _LOST).mkdir(mode=0o700, exist_ok=True)
                (self.incoming / key / _LOST / name).touch(mode=0o600)

    def settle(self, sender: int, *, released: bool) -> None:
        """Note that an association has ended, by a release or otherwise."""
        with self._lock:
            for key, study in list(self._studies.items()):
                if sender not in study.senders:
                    continue
                study.senders.discard(sender)
                study.broken_off = study.broken_off or not released
                if study.senders or study.lost:
                    continue
                if not study.size:  # what was lost has come since, in another study
                    del self._studies[key]
                    shutil.rmtree(self.incoming / key, ignore_errors=True)
                elif not study.broken_off:
                    study.is_whole = True
                    with contextlib.suppress(OSError, BrainageError):  # `take` tries again
                        self._mark(key)

    def _mark(self, key: str) -> None:
        """Have it on disk that a study is whole: a kill must not make it one that broke off."""
        if not (self.incoming / key / _WHOLE).exists():
            atomic_write_bytes(self.incoming / key / _WHOLE, b"")
            _sync(self.incoming / key)
            _sync(self.incoming / key / OBJECTS)

    def take(self) -> list[str]:
        """Move studies that nothing is awaited of to the line of work; returns their jobs.

        Raises
        ------
        OSError, BrainageError
            If the disk does not allow it.
        """
        taken, now = [], time.monotonic()
        with self._lock:
            for key, study in list(self._studies.items()):
                if study.is_whole:
                    self._mark(key)
                limits = self._limits
                wait = limits.quiet_s if study.is_whole else limits.broken_off_s
                if study.senders or now - study.last < wait:
                    continue
                job = f"{key}-{secrets.token_hex(4)}"
                (self.incoming / key / OBJECTS).mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.incoming / key).rename(self.working / job)
                del self._studies[key]
                taken.append(job)
        return taken

    def jobs(self, folder: Path) -> list[str]:
        """Jobs in ``working`` or ``outgoing``, the oldest first."""
        found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        with self._lock:
            self._others = _size(self.working) + _size(self.outgoing)
        return [path.name for path in found]

    def is_whole(self, job: str) -> bool:
        """Whether a study at work came whole, as far as its senders have said."""
        return (self.working / job / _WHOLE).exists()

    def objects(self, job: str) -> Path:
        """Folder of the objects of a study at work."""
        return self.working / job / OBJECTS

    def begin(self, job: str) -> int:
        """Count that a study at work was begun; returns how often, this time included.

        Raises
        ------
        BrainageError
            If the disk is full.
        """
        path = self.working / job / _ATTEMPTS
        times = 1 + (path.stat().st_size if path.exists() else 0)
        atomic_write_bytes(path, b"." * times)
        return times

    def postpone(self, job: str) -> None:
        """Forget that a study was begun: what stopped it was not the study."""
        (self.working / job / _ATTEMPTS).unlink(missing_ok=True)

    def draft(self, job: str) -> Path:
        """Return an empty folder for the results of a study."""
        folder = self.temporary / job
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def commit(self, job: str) -> None:
        """Put results in the line for sending, and let the study go."""
        _sync(self.temporary / job)
        (self.temporary / job).rename(self.outgoing / job)
        _sync(self.outgoing)
        self.remove(job, self.working)

    def remove(self, job: str, folder: Path) -> None:
        """Let a job go from ``working`` or ``outgoing``; its files may be partly gone already."""
        shutil.rmtree(folder / job, ignore_errors=True)


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # sent and gone meanwhile
                total += (Path(parent) / name).stat().st_size
    return total


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk too."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
