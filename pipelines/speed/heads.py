"""Predict many whole heads by the command, and watch its time, memory and ledger.

``python -m pipelines.speed.heads --data ../shared/data --heads 200 --output DIR``. Where there are
fewer heads, some come again, packed anew, so that no prepared scan is found by its hash. Memory
is what the kernel says of the command's process and of its workers. Nothing else should run.
"""

import argparse
import gzip
import subprocess
import sys
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import psutil

from brainage.cohorts.people import name_files
from brainage.errors import CohortError
from brainage.preprocessing.ledger import read_ledger
from brainage.types import Json
from brainage.workflows.console import run_as_command, say
from brainage.workflows.predict import ledger_path
from brainage.workflows.results import write_table

_EVERY_S = 0.25
_QUARTERS = 4


def main() -> None:
    """Predict, and write heads.csv with its memory.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = sorted(options.data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))
    if not found:
        raise CohortError(str(options.data / "ixi_hh"), "has no heads.")
    with TemporaryDirectory() as name:
        folder, table = Path(name), options.output / "ages.csv"
        paths = [str(path) for path in place_heads(found, options.heads, folder / "heads")]
        more = ["--jobs", str(options.jobs), "--cache", str(folder / "cache")]
        command = [sys.executable, "-m", "brainage", "predict", *paths, *more]
        start = time.perf_counter()
        samples = watch([*command, "--output", str(table)])
        seconds = time.perf_counter() - start
    row = summarise(table, paths, seconds, samples)
    write_table(pd.DataFrame([row]), options.output / "heads.csv")
    write_table(by_quarter(samples), options.output / "memory.csv")
    say(", ".join(f"{name} {value}" for name, value in row.items()))


def place_heads(found: list[Path], count: int, folder: Path) -> list[Path]:
    """Pack as many heads as wanted into files of their own, no two of the same bytes."""
    folder.mkdir(parents=True)
    paths = []
    for number, source in enumerate(islice(cycle(found), count)):
        packed = gzip.compress(gzip.decompress(source.read_bytes()), 1, mtime=number)
        paths.append(folder / f"{number:04d}_{source.name}")
        paths[-1].write_bytes(packed)
    return paths


def watch(command: list[str]) -> pd.DataFrame:
    """Run a command and sample the memory of its processes.

    Returns
    -------
    pandas.DataFrame
        `seconds` from the start, `process` (command or worker), `pid`, `resident_mb` now and
        `peak_mb` up to now.
    """
    rows: list[Json] = []
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                workers = psutil.Process(process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                break
            for pid in (process.pid, *(worker.pid for worker in workers)):
                known = _read_memory(pid)
                if known:
                    role = "command" if pid == process.pid else "worker"
                    seconds = time.perf_counter() - start
                    rows.append({"seconds": seconds, "process": role, "pid": pid, **known})
            time.sleep(_EVERY_S)
    return pd.DataFrame(rows)


def _read_memory(pid: int) -> Json:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return {}
    told = dict(line.split(":", 1) for line in text.splitlines())
    names = {"resident_mb": "VmRSS", "peak_mb": "VmHWM"}
    if not all(key in told for key in names.values()):  # it is ending
        return {}
    return {name: int(told[key].split()[0]) // 1024 for name, key in names.items()}


def summarise(table: Path, paths: list[str], seconds: float, samples: pd.DataFrame) -> Json:
    """Return speed, peaks, and whether ledger and table have each head exactly once."""
    entries, ages, names = read_ledger(ledger_path(table)), pd.read_csv(table), name_files(paths)
    verdicts = Counter(entry.verdict for entry in entries)
    used = [entry.scan_id for entry in entries if entry.verdict != "failed"]
    twins = ages.groupby(ages["path"].map(lambda path: Path(path).name.split("_", 1)[1]))
    spread = twins["predicted_age_years"].max() - twins["predicted_age_years"].min()
    peaks = samples.groupby("process")["peak_mb"].max()
    return {
        "heads": len(paths),
        "seconds": round(seconds, 1),
        "heads_an_hour": round(3600 * len(paths) / seconds),
        "command_peak_mb": peaks.get("command"),
        "worker_peak_mb": peaks.get("worker"),
        **{verdict: verdicts[verdict] for verdict in ("ok", "flagged", "failed")},
        "ledger_is_exact": [entry.scan_id for entry in entries] == names
        and list(ages["scan_id"]) == used,
        "largest_difference_of_twins_years": spread.max(),
    }


def by_quarter(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the largest resident memory in each quarter of the time, of command and workers."""
    share = samples["seconds"] / samples["seconds"].max()
    quarter = (share * _QUARTERS).astype(int).clip(upper=_QUARTERS - 1) + 1
    grouped = samples.groupby(["process", quarter.rename("quarter")])["resident_mb"]
    return grouped.max().unstack().reset_index()


if __name__ == "__main__":
    sys.exit(run_as_command(main))
