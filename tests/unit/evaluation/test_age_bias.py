"""Corrections of the age bias, and the trap in them."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError, ConfigError, ShapeError
from brainage.evaluation.age_bias import (
    AgeBiasCorrector,
    bias_report,
    correct_out_of_fold,
    subject_folds,
)


def line(slope: float, intercept: float, method: str) -> AgeBiasCorrector:
    age = np.linspace(20, 80, 10)
    return AgeBiasCorrector(method).fit(slope * age + intercept, age)


def predictions(n: int = 200, slope: float = 0.6, noise: float = 4.0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    age = random.uniform(20, 90, n)
    predicted = 55 + slope * (age - 55) + random.normal(0, noise, n)
    return pd.DataFrame(
        {
            "subject_id": [str(i) for i in range(n)],
            "age_years": age,
            "predicted_age_years": predicted,
        }
    )


def everyone(table: pd.DataFrame) -> np.ndarray:
    return np.ones(len(table), dtype=bool)


@pytest.mark.parametrize("method", ["beheshti", "de_lange", "cole"])
def test_corrected_gap_of_controls_does_not_follow_age(method):
    table = predictions()
    corrected = correct_out_of_fold(table, method, everyone(table), np.arange(200) % 5)
    report = bias_report(corrected, method, everyone(table))
    assert report["raw_slope"] < -0.3 and abs(report["corrected_slope"]) < 0.03
    assert report["warning"] == ""


def test_each_method_is_its_published_formula():
    age, predicted = np.array([30.0, 70.0]), np.array([45.0, 60.0])
    # Beheshti: offset = α·age + β fitted to the gap, so α = 0.6 - 1.
    beheshti = (predicted - age) - ((0.6 - 1) * age + 22.0)
    de_lange = predicted + (age - (0.6 * age + 22.0)) - age
    cole = (predicted - 22.0) / 0.6 - age
    for method, expected in (("beheshti", beheshti), ("de_lange", de_lange), ("cole", cole)):
        np.testing.assert_allclose(line(0.6, 22.0, method).transform(predicted, age), expected)


def test_correction_is_fitted_on_controls_of_other_folds_alone():
    table = predictions()
    folds, controls = np.arange(200) % 5, np.arange(200) % 2 == 0
    before = correct_out_of_fold(table, "beheshti", controls, folds)
    column = "brain_age_gap_corrected_years"
    patients = table.assign(
        predicted_age_years=table["predicted_age_years"] + np.where(controls, 0, 30)
    )
    after = correct_out_of_fold(patients, "beheshti", controls, folds)
    np.testing.assert_array_equal(before[column][controls], after[column][controls])
    own = table.assign(
        predicted_age_years=table["predicted_age_years"] + np.where(folds == 0, 30, 0)
    )
    moved = correct_out_of_fold(own, "beheshti", controls, folds)
    np.testing.assert_allclose(moved[column][folds == 0], before[column][folds == 0] + 30)


def test_predictions_are_left_as_they_are():
    table = predictions()
    corrected = correct_out_of_fold(table, "cole", everyone(table), np.arange(200) % 5)
    pd.testing.assert_frame_equal(corrected[list(table.columns)], table)


def test_useless_model_looks_fine_after_correction_and_is_called_useless():
    table = predictions(slope=0.0, noise=2.0)
    corrected = correct_out_of_fold(table, "beheshti", everyone(table), np.arange(200) % 5)
    gap = corrected["brain_age_gap_corrected_years"]
    raw = (table["predicted_age_years"] - table["age_years"]).abs().mean()
    assert raw > 15 and gap.abs().mean() < 2  # the trap: "MAE 1.6 years"
    report = bias_report(corrected, "beheshti", everyone(table))
    assert "means nothing" in report["warning"]
    assert not any("corrected_mae" in key or "corrected_r" in key for key in report)


def test_coles_line_of_a_useless_model_is_refused():
    with pytest.raises(CohortError, match="nothing to invert"):
        line(0.0, 55.0, "cole").transform([55.0], [30.0])


def test_too_few_controls_and_unknown_methods_are_refused():
    with pytest.raises(CohortError, match="at least 10 controls"):
        AgeBiasCorrector().fit([30.0, 40.0], [30.0, 40.0])
    with pytest.raises(ConfigError, match="unknown method"):
        line(1.0, 0.0, "best").transform([30.0], [30.0])


def test_a_persons_scans_share_a_fold():
    ids = [str(n // 2) for n in range(40)]
    folds = subject_folds(ids)
    assert (folds[::2] == folds[1::2]).all() and len(set(folds)) == 5


def test_arrays_that_would_broadcast_and_ages_that_are_none_are_refused():
    age = np.linspace(20, 80, 20)
    corrector = AgeBiasCorrector().fit(age, age)
    for predicted in (age[:, None], age[:1]):
        with pytest.raises(ShapeError):
            corrector.fit(predicted, age)
        with pytest.raises(ShapeError):
            corrector.transform(predicted, age)
    with pytest.raises(CohortError, match="1 of 20"):
        corrector.fit(np.r_[np.nan, age[1:]], age)


@pytest.mark.parametrize("slope", [-1.0, 0.02])
def test_coles_line_that_does_not_rise_beyond_chance_is_refused(slope):
    """A falling line turned gaps round, one of chance gave gaps of thousands of years."""
    age = np.linspace(20, 80, 40)
    noise = np.random.default_rng(0).normal(0, 5, 40)
    corrector = AgeBiasCorrector("cole").fit(50 + slope * (age - 50) + noise, age)
    with pytest.raises(CohortError, match="nothing to invert"):
        corrector.transform([55.0], [30.0])
