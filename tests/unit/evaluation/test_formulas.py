"""Numbers that can be worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from brainage.evaluation import conformal, groups, longitudinal, reliability
from brainage.evaluation.age_bias import bias_report, correct_out_of_fold, subject_folds
from brainage.evaluation.leakage import permutations_needed, permute_ages, permuted_age_check
from brainage.evaluation.metrics import age_metrics, paired_difference, subgroup_metrics
from brainage.evaluation.normative import make_reference, match_percentile


def test_mean_squares_are_those_of_shrout_and_fleiss() -> None:
    # Shrout & Fleiss 1979, table 3: BMS 11.24, JMS 32.49, EMS 1.02.
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = reliability._mean_squares(np.asarray(table, float))
    assert found == pytest.approx((11.24, 32.49, 1.02), abs=0.005)


def test_a_wider_level_widens_the_iccs_interval_and_perfect_scans_have_none() -> None:
    random = np.random.default_rng(0)
    true = random.normal(50, 10, 20)
    values = true[:, None] + random.normal(0, 4, (20, 2))
    narrow, wide = (reliability.intraclass_correlation(values, level) for level in (0.8, 0.99))
    assert narrow.icc == wide.icc
    assert wide.icc_ci_low < narrow.icc_ci_low < narrow.icc < narrow.icc_ci_high < wide.icc_ci_high
    perfect = reliability.intraclass_correlation(np.repeat(true[:, None], 3, axis=1))
    assert (perfect.icc, perfect.icc_ci_low, perfect.icc_ci_high) == pytest.approx((1.0, 1.0, 1.0))


def test_every_test_retest_number_of_three_scans() -> None:
    values = np.array([[10.0, 12.0, 11.0], [20.0, 19.0, 24.0], [33.0, 30.0, 30.0]])
    row = reliability.measure_reliability(values, "gap")
    difference = values[:, 1] - values[:, 0]
    within = np.sqrt(values.var(axis=1, ddof=1).mean())
    assert (row.measure, row.n_subjects, row.n_scans) == ("gap", 3, 3)
    assert row.within_sd == pytest.approx(within)
    assert row.smallest_detectable_change == pytest.approx(1.96 * np.sqrt(2) * within)
    half = 1.96 * difference.std(ddof=1)
    limits = (difference.mean(), difference.mean() - half, difference.mean() + half)
    assert (row.bias, row.agreement_low, row.agreement_high) == pytest.approx(limits)
    table = reliability.reliability_table({"gap": values, "age": values + 1})
    assert list(table["measure"]) == ["gap", "age"] and table["icc"].nunique() == 1


def test_pairs_are_in_order_of_age_and_may_be_just_as_far_apart_as_allowed() -> None:
    table = pd.DataFrame(
        {
            "subject_id": ["b", "b", "a", "a", "a", "c", "c", "d", "d"],
            "scan_id": ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
            "age_years": [41.0, 40.0, 30.0, 31.0, 32.0, np.nan, np.nan, 50.0, 51.1],
            "gap": [2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        }
    )
    found = reliability.repeated_scans(table, ["gap"])["gap"]
    # Of a the first two of three; c without ages is a pair; d is 1.1 years apart.
    assert found.tolist() == [[3.0, 4.0], [1.0, 2.0], [6.0, 7.0]]
    table.loc[0, "gap"] = np.nan
    assert reliability.repeated_scans(table, ["gap"])["gap"].tolist() == [[3.0, 4.0], [6.0, 7.0]]


def test_decades_are_joined_from_below_until_each_holds_enough() -> None:
    predicted = np.array([21.0, 25, 33, 38, 39, 47, 52, 58, 61, 69])
    assert conformal.choose_edges(predicted, 2) == (30.0, 40.0, 60.0)
    assert conformal.choose_edges(predicted, 3) == (40.0, 60.0)[:1]
    assert conformal.choose_edges(predicted, 1) == (30.0, 40.0, 50.0, 60.0)
    # A prediction on an edge belongs to the band above.
    assert conformal.choose_edges(np.array([29.0, 30.0]), 1) == (30.0,)


def test_scores_are_in_their_bands_sorted_and_scaled_by_spreads_of_a_year_or_more() -> None:
    age = np.array([22.0, 27, 35, 31])
    predicted, spread = np.array([25.0, 26, 33, 38]), np.array([0.5, 4.0, 2.0, 7.0])
    plain = conformal.ConformalInterval("absolute", 2).fit(predicted, age, spread)
    assert plain.edges_years_ == (30.0,) and plain.scores_ == ((1.0, 3.0), (2.0, 7.0))
    assert (plain.kind, plain.source_, plain.offset_years_, plain.n_subjects_) == (
        "absolute",
        "validation",
        0.0,
        4,
    )
    scaled = conformal.ConformalInterval("normalised", 2).fit(
        predicted, age, spread, source="out_of_fold"
    )
    assert scaled.scores_ == ((0.25, 3.0), (1.0, 1.0)) and scaled.source_ == "out_of_fold"
    bounds = scaled.predict([29.0, 30.0], [0.1, 3.0], 0.5)
    # Rank ⌈3 · 0.5⌉ = 2 of 2; a spread below a year counts as a year.
    np.testing.assert_allclose(bounds, [[26.0, 32.0], [27.0, 33.0]])


def test_the_first_scan_of_a_person_counts() -> None:
    fitted = conformal.ConformalInterval("absolute").fit(
        [51.0, 53, 52], [50.0, 50, 50], groups=["b", "a", "b"]
    )
    assert fitted.scores_ == ((1.0, 3.0),)


def test_a_calibration_in_a_file_is_rounded_to_tenths_of_milliyears() -> None:
    values = conformal.ConformalInterval.from_json(
        {
            "kind": "absolute",
            "edges_years": [],
            "scores": [[1.23456789]],
            "source": "validation",
            "offset_years": 0.5,
        }
    ).to_json()
    assert values == {
        "kind": "absolute",
        "edges_years": [],
        "scores": [[1.2346]],
        "source": "validation",
        "offset_years": 0.5,
    }


def test_coverage_has_the_exact_interval_of_clopper_and_pearson() -> None:
    age = np.array([30.0, 31, 32, 45, 46])
    table = pd.DataFrame(
        {
            "age_years": [*age, np.nan, 50.0],
            "predicted_age_years": 40.0,
            # Ages on a bound are inside; the fifth lies outside.
            "interval_low_years": [30.0, 30, 30, 40, 30, 30, np.nan],
            "interval_high_years": [50.0, 40, 32, 50, 45, 50, 50],
            "sex": list("FFMMFFF"),
        }
    )
    found = conformal.coverage_table(table)
    first = found.iloc[0]
    exact = stats.binomtest(4, 5).proportion_ci(method="exact")
    assert (first["group"], first["value"], first["n"], first["coverage"]) == ("all", "all", 5, 0.8)
    assert first["coverage_ci_low"] == pytest.approx(exact.low)
    assert first["coverage_ci_high"] == pytest.approx(exact.high)
    assert first["mean_width_years"] == pytest.approx((20 + 10 + 2 + 10 + 15) / 5)
    assert found.set_index("value").loc["F", "coverage"] == pytest.approx(2 / 3)
    none = conformal.coverage_table(table.assign(interval_low_years=np.nan))
    columns = ["group", "value", "n", "coverage", "mean_width_years"]
    assert list(none.columns) == columns and none.empty


def test_a_single_fold_has_no_intervals() -> None:
    table = pd.DataFrame({"age_years": [1.0], "predicted_age_years": [2.0], "spread_years": [1.0]})
    table["subject_id"] = "a"
    bounds = conformal.out_of_fold_intervals(table, [0])[
        ["interval_low_years", "interval_high_years"]
    ]
    assert bounds.isna().all(axis=None)


def test_recalibration_keeps_kind_and_source() -> None:
    fitted = conformal.ConformalInterval("normalised").fit_controls(
        [55.0, 65, 45], [50.0, 60, 40], [2.0, 4.0, 5.0], "3 controls"
    )
    assert (fitted.kind, fitted.source_, fitted.offset_years_) == ("normalised", "3 controls", 5.0)
    assert fitted.scores_ == ((0.0, 0.0, 0.0),)


def test_the_effect_size_is_in_residual_deviations_with_hedges_interval() -> None:
    random = np.random.default_rng(0)
    cases = np.arange(40) < 15
    table = pd.DataFrame({"age_years": 60.0, "gap": random.normal(0, 2, 40) + 3 * cases})
    effect = groups.group_effect(table, "gap", cases)
    a, b = table["gap"][cases], table["gap"][~cases]
    pooled = np.sqrt((14 * a.var(ddof=1) + 24 * b.var(ddof=1)) / 38)
    d = (a.mean() - b.mean()) / pooled
    error = np.sqrt(1 / 15 + 1 / 25 + d**2 / 80)
    assert effect.difference == pytest.approx(a.mean() - b.mean())
    assert effect.d == pytest.approx(d)
    assert (effect.d_ci_low, effect.d_ci_high) == pytest.approx(
        (d - 1.96 * error, d + 1.96 * error)
    )
    assert (effect.n_cases, effect.n_controls, effect.covariates) == (15, 25, "")
    assert groups.effect_table([effect])["measure"].tolist() == ["gap"]


def test_missing_values_and_ages_are_left_out_of_the_groups() -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"age_years": random.uniform(50, 80, 30), "gap": random.normal(size=30)})
    cases = np.arange(30) < 10
    table.loc[0, "gap"], table.loc[29, "age_years"] = np.nan, np.nan
    table["gap"] = table["gap"].astype(object)
    table.loc[1, "gap"] = " "
    effect = groups.group_effect(table, "gap", cases)
    assert (effect.n_cases, effect.n_controls) == (8, 19)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_auc_has_hanley_and_mcneils_interval(shift: float) -> None:
    above, below = np.arange(8.0) + 8 * shift, np.arange(10.0)
    auc, low, high = groups.auc_interval(above, below)
    assert auc == pytest.approx(np.mean([(a > b) + 0.5 * (a == b) for a in above for b in below]))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + 7 * (q1 - auc**2) + 9 * (q2 - auc**2)) / 80
    assert (low, high) == pytest.approx(
        (max(0, auc - 1.96 * variance**0.5), min(1, auc + 1.96 * variance**0.5))
    )
    assert groups.auc_interval([5.0, 6.0], [1.0, 2.0]) == (1.0, 1.0, 1.0)
    assert groups.auc_interval([1.0, 2.0], [5.0, 6.0]) == (0.0, 0.0, 0.0)


def test_change_is_the_slope_over_all_scans_of_a_person() -> None:
    table = pd.DataFrame(
        {
            "subject_id": ["b", "a", "a", "a", "b", "c", "c", "d"],
            "age_years": [70.0, 60, 61, 64, 70, 50, 52, np.nan],
            "brain_age_gap_years": [1.0, 0, 2, 3, 5, 4, 1, 2],
        }
    )
    found = longitudinal.yearly_change(table)
    assert list(found["subject_id"]) == ["a", "c"] and list(found["n_scans"]) == [3, 2]
    assert list(found["years"]) == [4.0, 2.0] and "exceeds" not in found
    slope = np.polyfit([60, 61, 64], [0, 2, 3], 1)[0]
    np.testing.assert_allclose(found["gap_change_per_year"], [slope, -1.5])
    limits = longitudinal.yearly_change(table, 1.0)
    scatter = np.array([60, 61, 64]).var() * 3
    expected = [1.96 / np.sqrt(scatter), 1.96 * np.sqrt(2) / 2]
    np.testing.assert_allclose(limits["smallest_detectable_per_year"], expected)
    assert list(limits["exceeds"]) == [bool(slope > expected[0]), True]


def test_the_bias_report_tells_raw_and_corrected_slopes_on_controls() -> None:
    age = np.tile(np.linspace(20, 80, 20), 2)
    table = pd.DataFrame({"age_years": age, "predicted_age_years": 0.5 * age + 20})
    controls = np.arange(40) < 30
    table = correct_out_of_fold(table, "beheshti", controls, np.arange(40) % 4)
    report = bias_report(table, "beheshti", controls)
    known = age[controls]
    assert (report["method"], report["n_controls"]) == ("beheshti", 30)
    assert report["raw_slope"] == pytest.approx(-0.5) and report["raw_r"] == pytest.approx(1.0)
    assert report["corrected_slope"] == pytest.approx(0.0, abs=1e-9)
    assert report["raw_mae_years"] == pytest.approx(np.abs(20 - 0.5 * known).mean())
    assert report["constant_mae_years"] == pytest.approx(np.abs(known - np.median(known)).mean())


@pytest.mark.parametrize(
    ("predicted", "warning"),
    [
        (
            np.full(20, 50.0),
            "the raw model is no better than a constant or hardly follows age (r undefined, "
            "MAE 15.8 against 15.8 years): its corrected gap means nothing.",
        ),
        (
            np.linspace(20, 80, 20) + 40,
            "the raw model is no better than a constant or hardly follows age (r 1.00, "
            "MAE 40.0 against 15.8 years): its corrected gap means nothing.",
        ),
        (np.linspace(25, 75, 20), ""),
    ],
)
def test_a_useless_model_is_called_so(predicted: np.ndarray, warning: str) -> None:
    table = pd.DataFrame({"age_years": np.linspace(20, 80, 20), "predicted_age_years": predicted})
    corrected = correct_out_of_fold(table, "beheshti", np.ones(20, bool), np.arange(20) % 4)
    assert bias_report(corrected, "beheshti", np.ones(20, bool))["warning"] == warning


def test_people_are_dealt_to_as_many_folds_as_asked_and_another_seed_deals_otherwise() -> None:
    ids = [str(number) for number in range(30)]
    folds = subject_folds(ids, 3, seed=1)
    assert np.bincount(folds.astype(int)).tolist() == [10, 10, 10]
    assert (folds == subject_folds(ids, 3, seed=1)).all()
    assert (folds != subject_folds(ids, 3, seed=2)).any()
    assert set(subject_folds(["a", "b", "a"])) == {0.0, 1.0}


def test_intervals_follow_the_number_of_resamples_and_may_be_left_out() -> None:
    age, errors = np.full(30, 50.0), np.random.default_rng(0).normal(0, 5, 30)
    default = age_metrics(age, age + errors)
    assert default == age_metrics(age, age + errors, seed=0, bootstrap=2000)
    assert age_metrics(age, age + errors, bootstrap=0)["mae_ci_low"] is None
    assert age_metrics(age, age + errors, bootstrap=1)["mae_ci_low"] is not None
    paired = paired_difference(errors, np.zeros(30))
    assert paired == paired_difference(errors, np.zeros(30), None, 0, 2000)
    low, high = paired["ci_low"], paired["ci_high"]
    standard = errors.std() / np.sqrt(30)
    assert low == pytest.approx(errors.mean() - 1.96 * standard, abs=0.15)
    assert high == pytest.approx(errors.mean() + 1.96 * standard, abs=0.15)


def test_subgroups_come_in_order_with_their_numbers_and_their_people() -> None:
    table = pd.DataFrame(
        {
            "age_years": [19.0, 95, 25, 26],
            "predicted_age_years": [20.0, 93, 25, 30],
            "sex": ["M", "F", "F", None],
            "site": [2, 1, 1, 2],
            "subject_id": ["a", "b", "c", "c"],
        }
    )
    found = subgroup_metrics(table, seed=3, bootstrap=50)
    assert list(zip(found["group"], found["value"], strict=True)) == [
        ("sex", "F"), ("sex", "M"), ("sex", "unknown"),
        ("age_band", "<20"), ("age_band", "20-29"), ("age_band", "90+"),
        ("site", "1"), ("site", "2"),
    ]  # fmt: skip
    band = found[found["value"] == "20-29"].iloc[0]
    assert (band["n"], band["mae_years"], band["bias_years"]) == (2, 2.0, 2.0)
    # Both scans are of one person, who has no spread.
    assert pd.isna(band["mae_ci_low"])
    site = found[found["value"] == "2"].iloc[0]
    expected = age_metrics([19.0, 26], [20.0, 30], subject_ids=["a", "c"], seed=3, bootstrap=50)
    assert (site["mae_ci_low"], site["mae_ci_high"]) == (
        expected["mae_ci_low"],
        expected["mae_ci_high"],
    )


def test_the_percentile_counts_those_below_and_half_of_those_who_are_equal() -> None:
    n = 40
    age = np.full(n, 52.0)
    table = pd.DataFrame({"subject_id": range(n), "age_years": age})
    table["predicted_age_years"] = age + np.repeat([-3.0, 5.0], n // 2)
    reference = make_reference(table, "held_out")
    tie = float(reference.brain_age_gap_years[0])
    equal = np.count_nonzero(reference.brain_age_gap_years == tie)
    below = np.count_nonzero(reference.brain_age_gap_years < tie)
    found = match_percentile(reference, 52.5, tie)
    assert found is not None and equal >= 1
    assert found.percentile == pytest.approx(100 * (below + equal / 2) / n)
    assert (found.n, found.window_years) == (40, 2.5)


def test_ages_are_dealt_by_the_seed_and_a_persons_mean_is_dealt_on() -> None:
    ages, ids = np.array([20.0, 30, 50, 70]), ["a", "a", "b", "c"]
    dealt = permute_ages(ages, ids, seed=4)
    expected = np.random.default_rng(4).permutation([25.0, 50.0, 70.0])[[0, 0, 1, 2]]
    np.testing.assert_array_equal(dealt, expected)
    assert (permute_ages(ages, ids) == permute_ages(ages, ids, seed=0)).all()
    assert permutations_needed(400, 20) == 1 and permutations_needed(399, 20) == 2
    assert permutations_needed(1, 20) == 20


def test_the_leak_is_measured_within_folds_over_seeds() -> None:
    class Fold:
        def __init__(self, test: list[int]) -> None:
            self.test = np.array(test)

    ages, ids = np.linspace(20, 80, 6), list("abcdef")
    folds = [Fold([0, 1, 2]), Fold([3, 4, 5])]

    def shifted(fold: Fold, permuted: np.ndarray) -> np.ndarray:
        # Right within a fold, wrong between folds: centring makes it perfect.
        return permuted[fold.test] + 1000 * fold.test[0]

    found = permuted_age_check(ages, ids, folds, shifted, seed=5, most_permutations=2)
    assert found["r"] == pytest.approx(1.0) and found["largest"] == pytest.approx(1.0)
    assert (found["n"], found["permutations"], found["passed"]) == (6, 2, False)
    assert found["limit"] == pytest.approx(3 / np.sqrt(12))
    flat = permuted_age_check(ages, ids, folds, lambda fold, _: np.zeros(3), most_permutations=1)
    assert flat["r"] == 0.0 and flat["passed"]
