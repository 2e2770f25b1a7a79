"""Intervals hold what they promise, at every sample size."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from brainage.errors import BundleError, CohortError, ConfigError, ShapeError
from brainage.evaluation.bounds import conformal_quantile
from brainage.evaluation.conformal import (
    ConformalInterval,
    choose_edges,
    coverage_table,
    out_of_fold_intervals,
)
from brainage.evaluation.site_offset import shrunken_offset


def fit(age, predicted, spread=None, *, groups=None, kind="absolute", least=40):
    return ConformalInterval(kind, least).fit(predicted, age, spread, groups)


def cohort(n: int, seed: int, noise: float = 5.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ages, predictions, spreads; old people are predicted worse and the spread says so."""
    random = np.random.default_rng(seed)
    age = random.uniform(20, 90, n)
    spread = noise * (0.5 + (age - 20) / 70)
    return age, age + random.normal(0, spread), spread


@given(n=st.integers(1, 60), percent=st.integers(1, 99))
@settings(max_examples=80, deadline=None)
def test_quantile_is_the_score_of_rank_ceil_n_plus_1_times_level(n, percent):
    rank = -(-(n + 1) * percent // 100)
    expected = float(rank) if rank <= n else math.inf
    assert conformal_quantile([float(s) for s in range(1, n + 1)], percent / 100) == expected


@pytest.mark.parametrize("kind", ["absolute", "normalised", "two_sided"])
def test_intervals_cover_new_scans_at_their_level(kind):
    hits = []
    for seed in range(40):
        calibration = fit(*cohort(49, seed), kind=kind, least=10**6)
        age, predicted, spread = cohort(200, 1000 + seed)
        low, high = calibration.predict(predicted, spread, 0.9).T
        hits.append(np.mean((low <= age) & (age <= high)))
    assert 0.885 < np.mean(hits) < 0.92


def test_bands_are_of_predicted_age_and_have_their_own_width():
    age, predicted, spread = cohort(600, 0)
    calibration = fit(age, predicted, spread, least=40)
    assert len(calibration.scores_) > 3 and all(len(band) >= 40 for band in calibration.scores_)
    low, high = calibration.predict([25.0, 85.0], [5.0, 5.0], 0.9).T
    assert (high - low)[0] < 0.8 * (high - low)[1]


def test_few_scans_form_one_band():
    assert choose_edges(np.linspace(20, 90, 30), 40) == ()


def test_normalised_intervals_widen_with_the_spread():
    calibration = fit(*cohort(100, 0), kind="normalised", least=1000)
    low, high = calibration.predict([50.0, 50.0], [2.0, 8.0], 0.9).T
    assert (high - low)[1] == pytest.approx(4 * (high - low)[0])


def test_two_sided_intervals_reach_as_far_as_the_residuals_do_on_either_side():
    predicted = np.full(99, 60.0)
    age = predicted + np.arange(-19, 80)
    fitted = fit(age, predicted, np.ones(99), kind="two_sided")
    # ranks 5 and 95 of 99 residuals that run from -19 to 79
    assert fitted.predict([60.0], [1.0], 0.9).tolist() == [[45.0, 135.0]]


def test_too_few_people_for_two_tails_give_one_width():
    calibrations = [fit(*cohort(12, 0), kind=k) for k in ("two_sided", "absolute")]
    bounds = [item.predict([50.0], [5.0], 0.9) for item in calibrations]
    np.testing.assert_allclose(*bounds)


def test_prediction_stays_inside_its_interval():
    age, predicted, spread = cohort(100, 0)
    fitted = fit(age + 100, predicted, spread, kind="two_sided")
    assert fitted.predict([50.0], [5.0])[0, 0] == 50.0


def test_interval_is_empty_where_the_scans_are_too_few_for_the_level():
    calibration = fit(*cohort(8, 0))
    assert np.isnan(calibration.predict([50.0], [5.0], 0.9)).all()
    assert np.isfinite(calibration.predict([50.0], [5.0], 0.8)).all()


def test_a_person_counts_once():
    age, predicted, spread = cohort(20, 0)
    twice = fit(
        *(np.repeat(values, 2) for values in (age, predicted, spread)),
        groups=[str(n) for n in np.repeat(np.arange(20), 2)],
    )
    assert twice.n_subjects_ == 20


def test_calibration_survives_json():
    calibration = fit(*cohort(200, 0), least=40)
    back = ConformalInterval.from_json(json.loads(json.dumps(calibration.to_json())))
    bounds = [c.predict([30.0, 70.0], [5.0, 5.0]) for c in (calibration, back)]
    np.testing.assert_allclose(*bounds, atol=1e-3)


def test_damaged_calibration_is_refused():
    values = {
        "kind": "absolute",
        "edges_years": [50.0],
        "scores": [[1.0], [2.0]],
        "source": "validation",
        "offset_years": 0.0,
    }
    with pytest.raises(BundleError, match="number of bands"):
        ConformalInterval.from_json(values | {"edges_years": []})
    with pytest.raises(BundleError, match="not readable"):
        ConformalInterval.from_json({"kind": "absolute"})


def test_wrong_level_or_lengths_are_refused():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        conformal_quantile([1.0], 90)
    with pytest.raises(ShapeError, match="four arrays"):
        fit([1.0, 2.0], [1.0], [1.0])


def test_a_folds_own_residuals_do_not_widen_its_intervals():
    age, predicted, spread = cohort(100, 0)
    folds = np.arange(100) % 5
    table = pd.DataFrame({"age_years": age, "predicted_age_years": predicted})
    table = table.assign(spread_years=spread, subject_id=[str(n) for n in range(100)])
    before = out_of_fold_intervals(table, folds)
    spoiled = table.assign(age_years=np.where(folds == 0, age + 500, age))
    after = out_of_fold_intervals(spoiled, folds)
    same = before["interval_low_years"] == after["interval_low_years"]
    assert same[folds == 0].all() and not same[folds != 0].any()


def test_recalibration_removes_a_sites_offset_and_leaves_each_control_out():
    age, predicted, spread = cohort(25, 3)
    fitted = ConformalInterval("absolute").fit_controls(predicted + 7, age, spread)
    gap = predicted + 7 - age
    t = gap.mean() / (gap.std(ddof=1) / 5)
    assert t > 3 and fitted.offset_years_ == pytest.approx(gap.mean() * (1 - 1 / t**2))
    others = np.array([shrunken_offset(np.delete(gap, n)) for n in range(25)])
    np.testing.assert_allclose(fitted.scores_[0], np.sort(np.abs(gap - others)))


def test_a_mean_gap_of_chance_is_not_subtracted():
    gap = np.tile([-7.0, 9.0], 10)
    fitted = ConformalInterval("absolute").fit_controls(50 + gap, np.full(20, 50.0))
    assert fitted.offset_years_ == 0.0
    assert fitted.scores_[0] == (7.0,) * 10 + (9.0,) * 10


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0, 6.0])
def test_twenty_controls_help_where_the_bias_is_large_and_cost_next_to_nothing(bias):
    rng, changes = np.random.default_rng(0), []
    for _ in range(300):
        gap = rng.normal(bias, 7, 120)
        rest = gap[20:]
        moved = rest - shrunken_offset(gap[:20])
        changes.append(np.abs(moved).mean() - np.abs(rest).mean())
    assert np.mean(changes) < (0.06 if bias < 2 else -0.1)


def test_coverage_interval_counts_people_not_scans():
    # By hand: 18 of 20 people, whether each has one scan or three.
    people = pd.DataFrame({"age_years": [50.0] * 18 + [90.0] * 2, "predicted_age_years": 50.0})
    people = people.assign(subject_id=range(20), interval_low_years=40.0, interval_high_years=60.0)
    exact = binomtest(18, 20).proportion_ci(method="exact")
    for times in (1, 3):
        told = coverage_table(pd.concat([people] * times, ignore_index=True)).iloc[0]
        assert told["n"] == 20 * times and told["coverage"] == 0.9
        limits = told[["coverage_ci_low", "coverage_ci_high"]].astype(float)
        np.testing.assert_allclose(limits, [exact.low, exact.high], rtol=1e-9)
    none = coverage_table(people.assign(interval_low_years=91.0, interval_high_years=92.0)).iloc[0]
    assert none["coverage_ci_low"] == 0.0 and 0.1 < none["coverage_ci_high"] < 0.2


def test_coverage_is_told_by_band_sex_and_site():
    age, predicted, spread = cohort(120, 0)
    table = pd.DataFrame({"age_years": age, "predicted_age_years": predicted})
    table = table.assign(
        spread_years=spread,
        subject_id=[str(n) for n in range(120)],
        sex=np.where(np.arange(120) % 2, "F", "M"),
        site="a",
    )
    coverage = coverage_table(out_of_fold_intervals(table, np.arange(120) % 4))
    assert set(coverage["group"]) == {"all", "sex", "age_band", "site"}
    overall = coverage.iloc[0]
    assert overall["coverage_ci_low"] < overall["coverage"] < overall["coverage_ci_high"]
    assert 0.8 < overall["coverage"] < 0.98 and overall["n"] == 120


AGES = np.linspace(20, 80, 60)
HOLED = np.r_[np.nan, AGES[1:]]


@pytest.mark.parametrize(
    ("kind", "predicted", "age", "error", "rule"),
    [
        ("normalized", AGES, AGES, ConfigError, "unknown kind"),
        ("two_sided", AGES, HOLED, CohortError, "1 of 60"),
        ("absolute", HOLED, AGES, CohortError, "1 of 60"),
    ],
)
def test_what_would_give_other_intervals_quietly_is_refused(kind, predicted, age, error, rule):
    with pytest.raises(error, match=rule):
        ConformalInterval(kind).fit(predicted, age, np.ones(60))


@pytest.mark.parametrize(("predicted", "spread"), [([[50.0]], [[5.0]]), ([50.0, 60.0], [5.0])])
def test_predictions_and_spreads_are_of_one_length(predicted, spread):
    with pytest.raises(ShapeError):
        ConformalInterval("normalised").fit(AGES, AGES, np.ones(60)).predict(predicted, spread)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.5])
def test_every_kind_refuses_a_level_that_is_no_share(level):
    with pytest.raises(ConfigError, match=f"got {level:g}"):
        ConformalInterval("two_sided").fit(AGES, AGES).predict([50.0], level=level)


@pytest.mark.parametrize("unknown", [np.nan, None, " "])
def test_scans_without_a_person_are_not_one_persons(unknown):
    groups = [unknown] * 2 + [f"p{number}" for number in range(58)]
    with pytest.raises(CohortError, match="2 of 60 scans have no person"):
        ConformalInterval().fit(AGES, AGES, groups=groups)


def test_a_band_holds_a_person_at_least():
    with pytest.raises(ConfigError, match="min_band_scans is 0"):
        ConformalInterval(min_band_scans=0).fit(AGES, AGES)
