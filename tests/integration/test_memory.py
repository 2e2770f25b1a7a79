"""Memory that predicting a whole head takes, by the processes' own peaks."""

import subprocess
import sys

import pytest

# A process of its own counts its children, and theirs, alone.
MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "brainage", *sys.argv[1:]], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def largest_process_mb(*words: object) -> int:
    command = [sys.executable, "-c", MEASURE, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.fixture(scope="module")
def heads(data_root):
    return sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[:3]


@pytest.mark.slow
def test_no_process_of_predict_takes_half_a_gigabyte(heads, tmp_path):
    options = ("--jobs", 2, "--cache", tmp_path / "cache", "--output", tmp_path / "ages.csv")
    assert largest_process_mb("predict", *heads, *options) <= 500


@pytest.mark.slow
def test_report_with_map_takes_less_than_a_gigabyte(heads, tmp_path):
    assert largest_process_mb("report", heads[0], "--output", tmp_path / "report") <= 900
