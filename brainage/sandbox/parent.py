"""The parent's side of a child process: start it, ask it, and survive its death."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from queue import SimpleQueue

from brainage.types import Json

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What one task may use.

    Attributes
    ----------
    memory_mb : int
        Private memory of the child, libraries included (they take about 700 MB).
    seconds : float
        Time of one task.
    threads : int
        Threads of numerical libraries.
    """

    memory_mb: int = 4096
    seconds: float = 900.0
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes
    ----------
    result : dict, optional
        What the function returned; None if it did not come to that.
    problem : str
        Why not, as one clause; empty if it did.
    seconds : float
        Time it took.
    """

    result: Json | None
    problem: str
    seconds: float


class Child:
    """A process that runs one task after another, and is replaced whenever it fails.

    A fresh interpreter over pipes rather than `multiprocessing`: daemonic processes, such as
    workers of dask, may have no `multiprocessing` children.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, function: str, argument: Json) -> Outcome:
        """Run ``module:name`` on a JSON object, within the limits."""
        start = time.monotonic()
        process = self._process = self._process or self._start()
        task = json.dumps({"function": function, "argument": argument}).encode() + b"\n"
        answer: bytes | None = b""
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.write(task)
            process.stdin.flush()
            answer = _read_line(process, start + self._limits.seconds)
        if answer is not None and answer.endswith(b"\n"):
            reply: Json = json.loads(answer)
        else:
            reply = {"error": self._explain(process, answer)}
        if "error" in reply:
            # A process in which something unexpected happened is not trusted with another task.
            self.close()
        seconds = time.monotonic() - start
        return Outcome(reply.get("result"), reply.get("error", ""), seconds)

    def kill(self) -> None:
        """End the process from another thread; `run` there tells that it was killed."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        threads = dict.fromkeys(_THREAD_VARIABLES, str(self._limits.threads))
        path = os.pathsep.join(part for part in sys.path if part)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "brainage.sandbox.child", str(self._limits.memory_mb)],
            env={**os.environ, **threads, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A group of its own: what it starts (dcm2niix, a brain extraction) ends with it.
            start_new_session=True,
        )

    def _explain(self, process: "subprocess.Popen[bytes]", answer: bytes | None) -> str:
        if answer is None:
            return f"did not end within {self._limits.seconds:g} s and was stopped"
        status = process.wait()
        if status == -signal.SIGKILL:
            return "its process was killed (SIGKILL), most likely for want of memory"
        if status < 0:
            return f"its process crashed ({signal.Signals(-status).name})"
        return f"its process ended early (exit status {status})"


class Children:
    """Children to borrow, as many as are asked for at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: SimpleQueue[Child] = SimpleQueue()
        self._all: list[Child] = []

    def run(self, function: str, argument: Json) -> Outcome:
        """Run a task in an idle child, or in a new one."""
        if self._idle.empty():
            self._all.append(Child(self._limits))
            self._idle.put(self._all[-1])
        child = self._idle.get()
        try:
            return child.run(function, argument)
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End all children."""
        for child in self._all:
            child.close()


def _read_line(process: "subprocess.Popen[bytes]", deadline: float) -> bytes | None:
    """Bytes up to a line's end or the end of output; None when the deadline passes first."""
    assert process.stdout is not None
    descriptor, received = process.stdout.fileno(), bytearray()
    while not received.endswith(b"\n"):
        left = max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            return None
        chunk = os.read(descriptor, 2**16)
        if not chunk:
            break
        received += chunk
    return bytes(received)
