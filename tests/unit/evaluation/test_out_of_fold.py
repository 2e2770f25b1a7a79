"""Repeats are averaged by scan; the baseline table pairs by scan."""

import numpy as np
import pandas as pd
import pytest

from brainage.evaluation.out_of_fold import (
    average_repeats,
    baseline_markdown,
    baseline_table,
    records,
)


def repeats() -> pd.DataFrame:
    first = pd.DataFrame(
        {
            "scan_id": ["a", "b"],
            "subject_id": ["a", "b"],
            "age_years": [30.0, 60.0],
            "predicted_age_years": [32.0, 50.0],
            "spread_years": [3.0, 4.0],
            "linear_predicted_age_years": [40.0, 50.0],
            "interval_low_years": [0.0, 0.0],
            "repeat": 0,
            "fold": [0, 1],
        }
    )
    # Another order of rows, as another split gives it.
    second = first.iloc[::-1].assign(
        repeat=1, fold=[0, 1], predicted_age_years=[60.0, 40.0], spread_years=[4.0, 3.0]
    )
    return pd.concat([first, second], ignore_index=True)


def test_predictions_are_averaged_by_scan_and_disagreement_widens_the_spread():
    table = average_repeats(repeats())
    assert list(table["scan_id"]) == ["a", "b"]
    assert list(table["predicted_age_years"]) == [36.0, 55.0]
    assert list(table["brain_age_gap_years"]) == [6.0, -5.0]
    np.testing.assert_allclose(table["spread_years"], [np.sqrt(9 + 16), np.sqrt(16 + 25)])
    assert list(table["fold"]) == [0, 1] and "interval_low_years" not in table


def test_table_pairs_the_network_with_every_baseline_and_marks_the_best():
    random = np.random.default_rng(0)
    age = random.uniform(20, 90, 50)
    table = pd.DataFrame(
        {
            "subject_id": [str(n) for n in range(50)],
            "age_years": age,
            "predicted_age_years": age + random.normal(0, 3, 50),
            "constant_predicted_age_years": 55.0,
            "linear_predicted_age_years": age + random.normal(0, 8, 50),
        }
    )
    summary = baseline_table(table, bootstrap=200).set_index("model")
    assert list(summary.index) == ["network", "constant", "linear"]
    assert summary["best_baseline"].to_dict() == {
        "network": False, "constant": False, "linear": True,
    }  # fmt: skip
    own, linear = summary.loc["network", "mae_years"], summary.loc["linear", "mae_years"]
    assert summary.loc["linear", "network_minus_years"] == pytest.approx(own - linear)
    assert summary.loc["linear", "network_minus_ci_high"] < 0
    text = baseline_markdown(summary.reset_index())
    assert "linear (best baseline)" in text and text.count("|\n") == 5


def test_records_have_none_where_a_cell_is_missing():
    assert records(pd.DataFrame({"a": [1.5, np.nan]})) == [{"a": 1.5}, {"a": None}]
