"""The table of damaged scans: what is judged again, and what it shows."""

import numpy as np
import pandas as pd

from brainage.preprocessing.verdict import load_limits
from pipelines.study.damage import judge_again, summarise

GOOD = {
    name: limit["median"] for name, limit in load_limits()["raw head"].items() if "median" in limit
}


def test_a_row_of_an_earlier_run_is_judged_by_the_limits_of_today() -> None:
    row = {"recognised": "raw head", "verdict": "failed", "reasons": "old", **GOOD, "noise": 9.0}
    again = judge_again(row)
    assert again["verdict"] == "flagged" and "noise 9" in again["reasons"]


def test_a_scan_without_a_brain_stays_failed() -> None:
    row = {"recognised": np.nan, "verdict": "failed", "reasons": "no brain", "noise": np.nan}
    assert judge_again(row)["verdict"] == "failed"


def test_a_wrong_registration_that_passes_is_shown() -> None:
    rows = [
        {"damage": "blur", "verdict": "ok", "error_mm": 20.0, "reasons": ""},
        {"damage": "blur", "verdict": "ok", "error_mm": 1.0, "reasons": ""},
        {"damage": "blur", "verdict": "failed", "error_mm": 30.0, "reasons": "x (noise 1, y)"},
    ]
    assert "| blur | 2 | 0 | 1 | 2 (1) | 20.0 mm | noise |" in summarise(pd.DataFrame(rows))
