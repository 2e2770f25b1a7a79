"""What a forked run does to itself before the command begins."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tools.faults.server import Run


def truncate_while_read(run: Run) -> None:
    """Child processes cut the victim short: see `tools/faults/cut/sitecustomize.py`."""
    # A child gets the path of its parent, and imports the module of that name at its start.
    sys.path.insert(0, str(Path(__file__).parent / "cut"))


def draw_nothing(run: Run) -> None:
    """Pictures become empty files."""
    from matplotlib.figure import Figure

    Figure.savefig = lambda *_, **__: None  # type: ignore[method-assign]


def jump_in_time(run: Run) -> None:
    """Ten years back and forth at every look at the clock; monotonic clocks do not jump."""
    looks = [0]
    real: Callable[[], int] = time.time_ns

    def time_ns() -> int:
        looks[0] += 1
        return real() + (-1) ** looks[0] * 10 * 365 * 86400 * 10**9

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def lose_a_worker(run: Run) -> None:
    """Kill the first child process that has worked for a while."""

    def wait_and_kill() -> None:
        while True:
            time.sleep(0.1)
            for pid in _children(os.getpid()):
                if _cpu_s(pid) > 2.0 and "resource_tracker" not in _command(pid):
                    os.kill(pid, signal.SIGKILL)
                    return

    threading.Thread(target=wait_and_kill, daemon=True).start()


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) and int(stat[1]) == parent:
            found.append(int(entry.name))
    return found


def _cpu_s(pid: int) -> float:
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") if stat else 0.0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
