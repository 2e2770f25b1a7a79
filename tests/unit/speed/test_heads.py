"""Prediction of many heads: memory by process, and a ledger that has each head exactly once."""

import gzip
import sys
from pathlib import Path

import pandas as pd
import pytest

from brainage.preprocessing.ledger import write_ledger
from brainage.types import LedgerEntry
from pipelines.speed.heads import by_quarter, place_heads, summarise, watch

SAMPLES = pd.DataFrame(
    {
        "seconds": [1.0, 2.0, 7.0, 8.0],
        "process": ["command", "worker", "command", "worker"],
        "resident_mb": [10, 30, 12, 20],
        "peak_mb": [10, 35, 12, 35],
    }
)


def test_head_that_comes_again_has_other_bytes_and_the_same_content(tmp_path):
    source = tmp_path / "sub-1_T1w.nii.gz"
    source.write_bytes(gzip.compress(b"voxels"))
    first, second = place_heads([source], 2, tmp_path / "placed")
    assert first.read_bytes() != second.read_bytes()
    assert gzip.decompress(first.read_bytes()) == gzip.decompress(second.read_bytes()) == b"voxels"


def test_memory_of_command_and_workers_is_watched():
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', '%s'])"
    held = "import time; held = bytearray(30 * 2**20); time.sleep(1)"
    samples = watch([sys.executable, "-c", nested % held])
    peaks = samples.groupby("process")["peak_mb"].max()
    assert peaks["worker"] > peaks["command"] + 20


def test_largest_memory_of_each_quarter():
    table = by_quarter(SAMPLES).set_index("process")
    assert table.loc["command", 1] == 10 and table.loc["command", 4] == 12
    assert table.loc["worker", 2] == 30 and table.loc["worker", 4] == 20


@pytest.mark.parametrize("missing", [False, True])
def test_ledger_is_exact_where_each_head_is_in_it_once(tmp_path, missing):
    paths = [f"{number}_sub-1_T1w.nii.gz" for number in range(2)]
    names = [Path(path).name.split(".")[0] for path in paths]
    ages = pd.DataFrame({"scan_id": names, "path": paths, "predicted_age_years": [40.0, 40.5]})
    ages.to_csv(tmp_path / "ages.csv", index=False)
    entries = [LedgerEntry(name, "prepare", "ok", "", 1.0) for name in names]
    write_ledger(entries[missing:], tmp_path / "ages.ledger.csv")
    row = summarise(tmp_path / "ages.csv", paths, 3.6, SAMPLES)
    assert row["ledger_is_exact"] is not missing
    assert row["heads_an_hour"] == 2000 and row["worker_peak_mb"] == 35
    assert row["largest_difference_of_twins_years"] == pytest.approx(0.5)
