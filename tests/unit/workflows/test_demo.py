"""The demo's table of methods beside their baselines."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.cohort import read_cohort
from brainage.workflows.demo import baselines_markdown, beside_baselines, find_scans


def predictions(error_years: float) -> pd.DataFrame:
    ages = np.linspace(20.0, 80.0, 12)
    return pd.DataFrame(
        {
            "subject_id": [f"s{n}" for n in range(12)],
            "age_years": ages,
            "predicted_age_years": ages + error_years,
            "constant_predicted_age_years": 50.0,
            "linear_predicted_age_years": ages - 5.0,
        }
    )


def test_methods_are_paired_with_the_linear_baseline():
    table = beside_baselines({"bp": predictions(7.0), "lfnn_l": predictions(2.0)})
    rows = table.set_index("predictor")
    assert list(rows.index) == ["constant", "linear", "bp", "lfnn_l"]
    assert rows.loc["linear", "mae_years"] == pytest.approx(5.0)
    assert rows.loc["bp", "minus_linear_years"] == pytest.approx(2.0)
    assert rows.loc["lfnn_l", "minus_linear_ci_high"] == pytest.approx(-3.0)


def test_a_baseline_has_no_difference_from_itself():
    text = baselines_markdown(beside_baselines({"lfnn_l": predictions(2.0)}))
    assert "| linear | 5.00 [5.00, 5.00] | – |" in text


def test_unseen_scans_are_found_from_the_folder_of_their_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = Path("demo/cache/phantoms/9/sub-1/anat/sub-1_T1w.nii.gz")
    scan.parent.mkdir(parents=True)
    scan.write_bytes(b"")
    tested = pd.DataFrame({"scan_id": ["sub-1"], "age_years": [50.0]}, index=[7])
    find_scans(tested, Path("demo/cache")).to_csv("demo/unseen.csv", index=False)
    (path,) = read_cohort("demo/unseen.csv").cohort.table["path"]
    assert Path(path) == scan.resolve()
