"""Memory of processes over time."""

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil


def private_mb(pid: int) -> float:
    """Memory that a process shares with nobody; NaN once it is gone."""
    try:
        return float(psutil.Process(pid).memory_full_info().uss) / 2**20
    except psutil.NoSuchProcess:
        return float("nan")


def tree_mb(pid: int) -> float:
    """Private memory of a process and all its children; 0 once it is gone."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for process in family:
        try:
            total += process.memory_full_info().uss / 2**20
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def run_watched(
    command: Sequence[str], log: Path, every_s: float = 1.0, cwd: Path | None = None
) -> tuple[list[tuple[float, float]], int]:
    """Run a command; its (seconds, MB of it and its children) and exit code."""
    curve: list[tuple[float, float]] = []
    with log.open("ab") as stream:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=cwd)
        done = threading.Event()

        def watch() -> None:
            while not done.wait(every_s):
                curve.append((time.monotonic() - start, tree_mb(process.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        done.set()
        watcher.join()
    return curve, status


def growth_mb(values: Sequence[float], warm_up: int) -> float:
    """What a straight line through the values after the warm-up gains from first to last."""
    steady = np.asarray(values[warm_up:], dtype=float)
    slope = np.polyfit(np.arange(len(steady)), steady, 1)[0]
    return float(slope * (len(steady) - 1))
