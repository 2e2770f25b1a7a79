"""Reliability against published examples."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.reliability import (
    intraclass_correlation,
    measure_reliability,
    repeated_scans,
)
from brainage.plotting.science import plot_bland_altman

# Shrout & Fleiss 1979, Table 2: four judges, six targets.
SHROUT_FLEISS = [
    [9, 2, 5, 8],
    [6, 1, 3, 2],
    [8, 4, 6, 8],
    [7, 1, 2, 6],
    [10, 5, 6, 9],
    [6, 2, 4, 7],
]


def test_icc_2_1_of_shrout_and_fleiss_is_0_29_with_the_published_interval():
    result = intraclass_correlation(SHROUT_FLEISS)
    assert result.icc == pytest.approx(0.29, abs=0.005)
    # 95 % interval as R's psych::ICC gives it for these data.
    assert (result.icc_ci_low, result.icc_ci_high) == pytest.approx((0.019, 0.761), abs=0.001)


def test_perfect_repetition_has_icc_1_and_an_offset_lowers_it():
    values = np.array([[30.0, 30.0], [50.0, 50.0], [70.0, 70.0]])
    assert intraclass_correlation(values).icc == 1.0
    assert intraclass_correlation(values + np.array([0.0, 15.0])).icc < 0.95


def test_offset_alone_has_the_interval_of_one_that_nearly_all_share():
    ages = np.linspace(20.0, 80.0, 10)
    noise = 1e-4 * np.cos(7 * ages)
    alone, nearly = (
        intraclass_correlation(np.stack([ages, ages + 15.0 + rest], axis=1)) for rest in (0, noise)
    )
    assert alone.icc_ci_low < alone.icc - 0.1
    assert alone.icc_ci_low == pytest.approx(nearly.icc_ci_low, abs=1e-3)
    assert alone.icc_ci_high == pytest.approx(nearly.icc_ci_high, abs=1e-3)


def test_smallest_detectable_change_and_limits_of_agreement():
    first = np.array([30.0, 50.0, 70.0, 60.0])
    second = first + np.array([1.0, -1.0, 3.0, 1.0])
    result = measure_reliability(np.stack([first, second], axis=1), "predicted_age_years")
    within = np.sqrt(np.mean([0.5, 0.5, 4.5, 0.5]))
    assert result.within_sd == pytest.approx(within)
    assert result.smallest_detectable_change == pytest.approx(2.772 * within, rel=1e-3)
    assert result.bias == 1.0
    assert result.agreement_high == pytest.approx(1.0 + 1.96 * np.std([1, -1, 3, 1], ddof=1))


def test_pairs_are_two_scans_of_a_person_close_in_time():
    table = pd.DataFrame(
        {
            "subject_id": ["a", "a", "b", "b", "c", "c", "d"],
            "scan_id": list("tuvwxyz"),
            "age_years": [30, 30.1, 40, 45, 50, 50, 60],
            "predicted_age_years": [31, 32, 41, 46, 52, 51, 61],
        }
    )
    pairs = repeated_scans(table, ["predicted_age_years"], max_years=1.0)
    np.testing.assert_array_equal(pairs["predicted_age_years"], [[31, 32], [52, 51]])
    later = pd.DataFrame(
        {"subject_id": "b", "scan_id": ["w2"], "age_years": 45.5, "predicted_age_years": 47}
    )
    pairs = repeated_scans(pd.concat([table, later]), ["predicted_age_years"], max_years=1.0)
    np.testing.assert_array_equal(pairs["predicted_age_years"], [[31, 32], [46, 47], [52, 51]])
    with pytest.raises(CohortError, match="0 people"):
        repeated_scans(table[table["subject_id"] == "d"], ["predicted_age_years"])


def test_one_scan_each_is_refused():
    with pytest.raises(ShapeError, match="at least 2"):
        intraclass_correlation([[1.0], [2.0]])


def test_bland_altman_picture_is_written(tmp_path):
    values = np.array([[30.0, 31.0], [50.0, 48.0], [70.0, 71.0]])
    path = plot_bland_altman(values, measure_reliability(values, "gap"), tmp_path / "b.png")
    assert path.read_bytes().startswith(b"\x89PNG")
