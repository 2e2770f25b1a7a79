"""Metrics against scikit-learn, against hand calculation, and in their corner cases."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.metrics import (
    age_bands,
    age_metrics,
    constant_predictor,
    paired_difference,
    subgroup_metrics,
)


@pytest.fixture
def ages() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    age = random.uniform(18, 90, 80)
    return age, 0.7 * age + 14 + random.normal(0, 6, 80)


def test_values_are_those_of_scikit_learn_and_scipy(ages):
    age, predicted = ages
    metrics = age_metrics(age, predicted)
    line = linregress(age, predicted - age)
    assert metrics["n"] == 80
    assert metrics["mae_years"] == pytest.approx(mean_absolute_error(age, predicted))
    assert metrics["rmse_years"] == pytest.approx(root_mean_squared_error(age, predicted))
    assert metrics["r2"] == pytest.approx(r2_score(age, predicted))
    assert metrics["r"] == pytest.approx(np.corrcoef(age, predicted)[0, 1])
    assert metrics["bias_years"] == pytest.approx(np.mean(predicted - age))
    assert metrics["gap_slope"] == pytest.approx(line.slope)


def test_gap_is_predicted_minus_chronological():
    assert age_metrics([40.0, 50.0], [43.0, 53.0])["bias_years"] == pytest.approx(3.0)


def test_interval_holds_the_mae_and_repeats_with_its_seed(ages):
    first, again, other = (age_metrics(*ages, seed=seed) for seed in (1, 1, 2))
    assert first["mae_ci_low"] < first["mae_years"] < first["mae_ci_high"]
    assert first == again
    assert first["mae_ci_low"] != other["mae_ci_low"]


def test_repeated_scans_of_the_same_people_do_not_narrow_the_interval(ages):
    age, predicted = (np.tile(values, 10) for values in ages)
    subjects = [f"sub-{index}" for index in range(80)] * 10
    once, repeated = age_metrics(*ages), age_metrics(age, predicted, subject_ids=subjects)
    width = [m["mae_ci_high"] - m["mae_ci_low"] for m in (once, repeated)]
    assert width[1] == pytest.approx(width[0], rel=0.15)


def test_equal_errors_have_no_spread_however_many_scans_each_person_has():
    age = np.full(6, 50.0)
    metrics = age_metrics(age, age + 4.0, subject_ids=["a", "a", "a", "a", "b", "c"])
    assert metrics["mae_ci_low"] == metrics["mae_ci_high"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("age", "predicted"), [([50.0], [55.0]), ([50.0, 50.0], [40.0, 60.0]), ([0.1] * 3, [0.1] * 3)]
)
def test_what_is_undefined_is_none_without_warning(age, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = age_metrics(age, predicted)
    assert metrics["r2"] is metrics["r"] is metrics["gap_slope"] is None
    assert metrics["mae_years"] == pytest.approx(np.mean(np.abs(np.subtract(age, predicted))))


def test_constant_prediction_has_no_correlation_but_an_r2():
    metrics = age_metrics([20.0, 40.0], [30.0, 30.0])
    assert metrics["r"] is None
    assert metrics["r2"] == pytest.approx(0.0)


def test_rounding_errors_of_a_constant_have_no_correlation():
    """Means of members that all say 51.3 differ by 1e-14."""
    age, noise = np.linspace(20, 80, 20), 1e-14 * np.random.default_rng(0).normal(size=20)
    assert age_metrics(age, 51.3 + noise)["r"] is None
    equal = age_metrics(51.3 + noise, age)
    assert equal["r2"] is equal["gap_slope"] is None


def test_one_subject_has_no_interval():
    assert age_metrics([50.0, 51.0], [50.0, 55.0], subject_ids=["a", "a"])["mae_ci_low"] is None


def test_column_against_vector_is_refused():
    with pytest.raises(ShapeError, match=r"\(3,\) and \(3, 1\)"):
        age_metrics(np.ones(3), np.ones((3, 1)))


def test_too_few_subjects_are_refused():
    with pytest.raises(ShapeError, match="expected 3 entries, got 2"):
        age_metrics(np.ones(3), np.ones(3), subject_ids=["a", "b"])


@pytest.mark.parametrize(("age", "message"), [([], "got none"), ([np.nan, 3.0], "1 of 2")])
def test_empty_and_non_finite_ages_are_refused(age, message):
    with pytest.raises(CohortError, match=message):
        age_metrics(age, age)


def test_paired_difference_sees_what_separate_intervals_hide():
    random = np.random.default_rng(0)
    shared = random.gamma(2.0, 3.0, 60)
    better = shared - 0.5 + random.normal(0, 0.2, 60)
    result = paired_difference(better, shared, [str(index) for index in range(60)], seed=0)
    assert result["mean"] == pytest.approx(np.mean(better - shared))
    assert result["ci_low"] < result["mean"] < result["ci_high"] < 0


@pytest.mark.parametrize(
    ("age", "band"), [(5, "<20"), (20, "20-29"), (29.99, "20-29"), (89.9, "80-89"), (90, "90+")]
)
def test_age_band_includes_its_lower_edge(age, band):
    assert age_bands([age])[0] == band


def test_subgroups_cover_every_scan_once():
    table = pd.DataFrame(
        {
            "age_years": [25.0, 26.0, 71.0, 72.0],
            "predicted_age_years": [27.0, 28.0, 70.0, 71.0],
            "sex": ["F", "M", None, "F"],
            "site": ["a", "a", "b", "b"],
            "subject_id": ["1", "2", "3", "4"],
        }
    )
    groups = subgroup_metrics(table)
    assert (groups.groupby("group")["n"].sum() == 4).all()
    by_value = groups.set_index(["group", "value"])
    assert by_value.loc[("sex", "unknown"), "n"] == 1
    assert by_value.loc[("age_band", "20-29"), "bias_years"] == pytest.approx(2.0)
    assert by_value.loc[("site", "b"), "mae_years"] == pytest.approx(1.0)


def test_grouping_that_is_not_known_has_no_rows():
    table = pd.DataFrame({"age_years": [25.0], "predicted_age_years": [27.0], "sex": [None]})
    assert list(subgroup_metrics(table)["group"]) == ["age_band"]


def test_table_without_predictions_is_refused():
    with pytest.raises(CohortError, match="lacks column predicted_age_years"):
        subgroup_metrics(pd.DataFrame({"age_years": [25.0]}))


def test_constant_predictor_has_the_smallest_mae_of_all_constants():
    ages = np.array([20.0, 21.0, 25.0, 60.0, 90.0])
    best = np.abs(ages - constant_predictor(ages, 5)).mean()
    assert best <= min(np.abs(ages - constant).mean() for constant in np.linspace(20, 90, 141))


def test_subgroups_intervals_follow_the_seed():
    error = np.random.default_rng(0).normal(0, 5, 30)
    table = pd.DataFrame({"age_years": 52.0, "predicted_age_years": 52.0 + error, "sex": "F"})
    found = subgroup_metrics(table, seed=3, bootstrap=50).iloc[0]
    expected = age_metrics(np.full(30, 52.0), 52.0 + error, seed=3, bootstrap=50)
    assert found["mae_ci_low"] == expected["mae_ci_low"]
    assert found["mae_ci_high"] == expected["mae_ci_high"]
