"""Runs of the `brainage` command that can be ended anywhere, without paying for imports each time.

A parent with all libraries imported forks a child for each run. The child counts what it does to
files (an audit hook sees every call) and kills itself before the n-th, or the parent kills it
after some seconds. ``python -m tools.faults.server`` answers a JSON object a line.
"""

import importlib
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR
SLOWEST_S = 300.0
_NEEDED = (
    "torch._dynamo",  # by the first optimizer
    "brainage.serving.task",
    "brainage.inference.attribution",
    "brainage.cli.main",
    "brainage.workflows.compare",
    "brainage.workflows.evaluate",
    "brainage.workflows.predict",
    "brainage.workflows.prepare",
    "brainage.workflows.report",
    "brainage.workflows.train",
)


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes
    ----------
    arguments : tuple of str
        What follows ``brainage``.
    folder : str
        Working directory; changes of files below it are counted.
    kill_at : int
        SIGKILL before this change (1 is the first); 0: none.
    kill_after_s : float
        SIGKILL after so many seconds; 0: never.
    number : int
        Another signal instead of SIGKILL.
    plan : str
        ``module:function`` that the child calls first; another may stand in FAULTS_PLAN.
    """

    arguments: tuple[str, ...]
    folder: str
    kill_at: int = 0
    kill_after_s: float = 0.0
    number: int = int(signal.SIGKILL)
    plan: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes
    ----------
    code : int
        Exit status, negative for a signal.
    changes : int
        Changes of files that it came to.
    direct : list of str
        Files that were opened for writing under a name that others may read.
    orphans : int
        Processes that it left behind for more than a minute.
    """

    code: int
    seconds: float
    cpu_s: float
    changes: int
    output: str
    direct: list[str]
    orphans: int

    @property
    def killed(self) -> bool:
        """Whether it was ended in the middle."""
        return self.code == -signal.SIGKILL

    @property
    def error_lines(self) -> list[str]:
        """Lines of its messages, progress bars left out."""
        return [line for line in self.output.splitlines() if line.strip()]


class Server:
    """The parent that forks."""

    def __init__(self) -> None:
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(variables, "1")}
        # Nothing of the person's own may decide: a run has what the campaign gives it.
        environment |= {"MLFLOW_TRACKING_URI": "off", "PYTHONPATH": str(Path.cwd())}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.server"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, run: Run) -> Ended:
        """Do a run and wait for its end."""
        return self.run_all([run])[0]

    def run_all(self, runs: list[Run]) -> list[Ended]:
        """Do runs at once."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(run) for run in runs]) + "\n")
        self._process.stdin.flush()
        return [Ended(**ended) for ended in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        """End the parent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class _Counter:
    """Audit hook: counts changes of files below a folder, and ends the process before one."""

    def __init__(self, run: Run, shared: mmap.mmap) -> None:
        self._run, self._shared, self._pid = run, shared, os.getpid()
        self._root, self._count = os.path.realpath(run.folder), 0
        self._direct: set[str] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not flags & _WRITES:
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if os.getpid() != self._pid or isinstance(path, int):
            return
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are not followed
        if not name.startswith(self._root):
            return
        self._count += 1
        if self._count == self._run.kill_at:
            os.kill(self._pid, self._run.number)
        self._shared[:8] = struct.pack("q", self._count)
        if event == "open":
            self._note(name)

    def _note(self, name: str) -> None:
        """Remember a file that is written where others may take it for whole."""
        relative = name[len(self._root) + 1 :]
        private = any(part.startswith(".") for part in relative.split("/"))
        if private or relative.endswith((".tmp", ".part", ".features", ".db", ".db-journal")):
            return
        self._direct.add(relative)
        listed = json.dumps(sorted(self._direct)).encode()[: len(self._shared) - 17]
        self._shared[8:16] = struct.pack("q", len(listed))
        self._shared[16 : 16 + len(listed)] = listed


def _child(run: Run, shared: mmap.mmap, log: int) -> int:
    os.setsid()
    os.chdir(run.folder)
    os.environ.update(run.environment)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(log), "w", 1) for _ in range(2))
    from brainage.workflows import console

    console.out.file, console.err.file = sys.stdout, sys.stderr
    for plan in filter(None, (os.environ.get("FAULTS_PLAN"), run.plan)):
        module, _, name = plan.partition(":")
        getattr(importlib.import_module(module), name)(run)
    sys.addaudithook(_Counter(run, shared))
    from brainage.cli.command import app

    sys.argv = ["brainage", *run.arguments]
    try:
        app(list(run.arguments), prog_name="brainage")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _fork(run: Run) -> tuple[int, mmap.mmap, Path]:
    shared = mmap.mmap(-1, 65536)
    log = Path(run.folder) / f".log-{time.monotonic_ns()}"
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = _child(run, shared, descriptor)
            import atexit

            atexit._run_exitfuncs()
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(descriptor)
    return pid, shared, log


class Stopwatch:
    """Seconds in which this process was looked at; not those in which somebody had stopped it."""

    def __init__(self) -> None:
        self._seen, self._passed_s = time.monotonic(), 0.0

    def look(self) -> float:
        """Seconds until now."""
        now = time.monotonic()
        self._passed_s += min(now - self._seen, 1.0)
        self._seen = now
        return self._passed_s


def _wait(pid: int, run: Run, watch: Stopwatch) -> tuple[int, float]:
    sent = False
    while True:
        passed = watch.look()
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        if run.kill_after_s and passed > run.kill_after_s and not sent:
            os.kill(pid, run.number)  # it alone, as a system that is out of memory would
            sent = True
        if passed > SLOWEST_S:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)


def _orphans(session: int, patience_s: float = 60.0) -> int:
    """Processes of a session that outlive its leader; they are killed then."""
    watch = Stopwatch()
    while found := processes_of(session):
        if watch.look() > patience_s:
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            return len(found)
        time.sleep(0.05)
    return 0


def processes_of(session: int) -> list[int]:
    """Processes of a session that are not dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def _do(requests: list[Json]) -> list[Json]:
    watch = Stopwatch()
    runs = [Run(**{**request, "arguments": tuple(request["arguments"])}) for request in requests]
    forked = [_fork(run) for run in runs]
    answers = []
    for run, (pid, shared, log) in zip(runs, forked, strict=True):
        code, cpu_s = _wait(pid, run, watch)
        seconds = watch.look()
        changes, length = struct.unpack("qq", shared[:16])
        direct = json.loads(shared[16 : 16 + length] or b"[]")
        output = log.read_text(errors="replace")
        log.unlink()
        answers.append(asdict(Ended(code, seconds, cpu_s, changes, output, direct, _orphans(pid))))
    return answers


def main() -> None:
    """Import, then answer requests until standard input closes."""
    import matplotlib.figure
    import torch

    for module in _NEEDED:
        importlib.import_module(module)
    from brainage.config import load_preset
    from brainage.preprocessing.priors import load_tissue_maps

    # What each child would do again: load the template and its maps, find the fonts.
    load_tissue_maps(load_preset("phantom").preprocessing)
    figure = matplotlib.figure.Figure()
    figure.text(0, 0, "warm")
    figure.savefig(os.devnull, format="png")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        print(json.dumps(_do(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
