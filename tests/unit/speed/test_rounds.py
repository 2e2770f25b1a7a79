"""Errors pooled over the folds of a cross-validation."""

import math

import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import Split
from brainage.training.run import PreparedCohort
from pipelines.speed.plan import Candidate
from pipelines.speed.rounds import (
    compare_ends,
    draw_rounds,
    pool_folds,
    pool_rounds,
    rounds_to_markdown,
    tabulate_baselines,
    tabulate_rounds,
)
from pipelines.speed.runs import Epoch, Measurement
from pipelines.speed.summary import Result, tabulate_curves, tabulate_runs

nan = math.nan
NONE = pd.DataFrame()


def result(name, repeat, *scores, seconds=1.0, test=7.0):
    method = "lfnn_l" if name.startswith("local") else "bp"
    epochs = tuple(Epoch(seconds * n, score) for n, score in enumerate(scores, start=1))
    measured = Measurement((), 10.0, epochs=epochs, test_mae_years=test)
    candidate = Candidate(name=name, method=method, schedule="x")
    return Result("all", candidate, "net", 4, repeat, measured)


def tabulate(results, folds):
    rounds = pool_rounds(tabulate_curves(results), folds)
    return tabulate_rounds(tabulate_runs(results), rounds, folds)


def ends_of(results):
    return compare_ends(tabulate_runs(results))


def one_round():
    return [
        result("long", 0, 9.0, 7.0, 5.0, 6.0),
        result("short", 0, 9.0, 8.0),
        result("local", 0, nan, 6.5, 5.5, seconds=0.5),
        result("long", 1, 9.0, 7.0, 7.0, 6.0),
        result("short", 1, 5.0, 5.0),  # by luck, in one fold
        result("local", 1, nan, 6.5, 5.9, seconds=0.7, test=6.0),
    ]


def test_folds_are_pooled_before_the_target_is_taken():
    table = tabulate(one_round(), 2).set_index("name")
    assert (table["target"] == 6.0).all()  # not 5.0, which is one fold's best
    assert table.loc["long", "seconds_to_target"] == 3.0  # touched before its end
    assert math.isnan(table.loc["short", "seconds_to_target"])
    assert table.loc["local", "seconds_to_target"] == pytest.approx(1.8)
    assert table.loc["local", "ratio"] == pytest.approx(0.6)
    assert table.loc["local", "final_val_score"] == pytest.approx(5.7)


def test_a_round_that_lacks_a_fold_does_not_count():
    results = [*one_round(), result("long", 2, 1.0), result("local", 2, 1.0)]
    assert set(tabulate(results, 2)["round"]) == {0}
    assert tabulate(results, 5).empty
    assert rounds_to_markdown(tabulate(results, 5), ends_of(results), NONE) == ""


def test_a_fold_that_ended_early_keeps_its_last_error():
    results = [result("a", 0, 8.0, 6.0), result("a", 1, 9.0, 7.0, 5.0)]
    curve = pool_folds(tabulate_curves(results))
    np.testing.assert_allclose(curve["val_score"], [8.5, 6.5, 5.5])
    np.testing.assert_allclose(curve["seconds"], [1.0, 2.0, 2.5])


def test_an_error_that_is_no_number_in_one_fold_makes_the_mean_none():
    results = [result("a", 0, 8.0, nan), result("a", 1, 9.0, 7.0, 5.0)]
    curve = pool_folds(tabulate_curves(results))
    np.testing.assert_equal(curve["val_score"].to_numpy(), [8.5, nan, nan])


def test_ends_are_compared_with_the_best_backpropagation_repeat_by_repeat():
    rows = ends_of(one_round()).set_index("name")
    assert (rows["baseline"] == "long").all()  # 6.0 on average, the short one 6.5
    local = rows.loc["local"]
    assert local["final_val_score"] == pytest.approx(-0.3)
    assert local["final_val_score_low"] <= -0.3 <= local["final_val_score_high"]
    assert local["test_mae_years"] == pytest.approx(-0.5)
    assert local["repeats"] == 2


def test_a_single_repeat_has_a_difference_and_no_interval():
    row = ends_of([result("long", 0, 6.0), result("local", 0, 5.0)]).iloc[0]
    assert row["final_val_score"] == -1.0 and math.isnan(row["final_val_score_low"])


def test_a_repeat_without_its_baseline_is_left_out():
    ends = ends_of([result("long", 0, 6.0), result("local", 1, 5.0)])
    assert math.isnan(ends.iloc[0]["final_val_score"])


def test_baselines_are_fitted_to_training_scans_of_each_fold():
    generator = np.random.default_rng(0)
    ages = generator.uniform(20.0, 80.0, 30)
    arrays = generator.normal(size=(30, 4, 4, 4)) + ages[:, None, None, None] / 10
    names = [f"p{n}" for n in range(30)]
    table = pd.DataFrame({"scan_id": names, "subject_id": names, "age_years": ages})
    table[["session_id", "sex", "site", "path"]] = ""
    prepared = PreparedCohort(Cohort(table, "test"), arrays.astype(np.float16))
    splits = [Split(*np.split(np.roll(np.arange(30), n), [20, 25])) for n in (0, 5, 9)]
    found = tabulate_baselines(prepared, splits, 2).set_index("name")
    assert set(found["round"]) == {0}  # the third split is no whole round
    expected = [
        np.abs(ages[split.test] - np.median(ages[split.train])).mean() for split in splits[:2]
    ]
    assert found.loc["constant", "test_mae_years"] == pytest.approx(np.mean(expected))
    assert found.loc["linear", "test_mae_years"] < 0.5 * np.mean(expected)


def test_what_is_written_and_drawn(tmp_path):
    results = one_round()
    text = rounds_to_markdown(tabulate(results, 2), ends_of(results), NONE)
    assert "| all | 0 | local | 6 | 1.8 | 0.6 |" in text
    rounds = pool_rounds(tabulate_curves(results), 2)
    draw_rounds(tabulate(results, 2), rounds, tmp_path / "rounds.png", "Title")
    assert (tmp_path / "rounds.png").stat().st_size > 1000
