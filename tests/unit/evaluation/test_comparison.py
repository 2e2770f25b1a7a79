"""Comparison of methods: the target rule, the pairing, the table."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError
from brainage.evaluation.comparison import (
    RUN_COLUMNS,
    comparison_markdown,
    comparison_table,
    seconds_to_target,
    summarise_comparison,
)

HISTORY = [
    {"epoch": 1, "train_seconds_cumulative": 2.0, "val_mae_years": 12.0},
    {"epoch": 2, "train_seconds_cumulative": 4.5, "val_mae_years": 7.0},
    {"epoch": 3, "train_seconds_cumulative": 6.0, "val_mae_years": 9.0},
]


def run(method: str, seed: int, **changes) -> dict:
    row = {
        "method": method,
        "schedule": "sequential",
        "seed": seed,
        "fold": 0,
        "mae_years": 5.0,
        "seconds_per_epoch": 2.0 + seed,
        "seconds_to_target": 20.0,
        "peak_memory_mb": 900.0,
    }
    return row | changes


def predictions(errors: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    """Every scan has age 50; the prediction is 50 + error."""
    return pd.DataFrame(
        [
            {
                "method": method,
                "seed": seed,
                "fold": 0,
                "scan_id": f"scan-{index}",
                "subject_id": f"sub-{index}",
                "age_years": 50.0,
                "predicted_age_years": 50.0 + error,
            }
            for (method, seed), values in errors.items()
            for index, error in enumerate(values)
        ]
    )


@pytest.mark.parametrize(("target", "seconds"), [(12.0, 2.0), (8.0, 4.5), (6.9, None)])
def test_target_counts_from_the_first_epoch_at_or_below_it(target, seconds):
    assert seconds_to_target(HISTORY, target) == seconds
    assert seconds_to_target(HISTORY[::-1], target) == seconds


def test_table_has_the_agreed_columns_first_and_empty_cells():
    row = {"device": "cpu", **run("bp", 0, seconds_to_target=None)}
    table = comparison_table([row])
    assert tuple(table.columns) == (*RUN_COLUMNS, "device")
    assert table.to_csv(index=False).splitlines()[1] == "bp,sequential,0,0,5.0,2.0,,900.0,cpu"


def test_missing_column_is_named():
    with pytest.raises(CohortError, match="lacks column fold"):
        comparison_table([{name: 0 for name in RUN_COLUMNS if name != "fold"}])


def test_errors_are_averaged_over_seeds_and_bp_comes_first():
    runs = comparison_table([run(m, s) for m in ("lfnn_l", "bp") for s in (0, 1)])
    table = predictions(
        {
            ("lfnn_l", 0): [1.0, -3.0],
            ("lfnn_l", 1): [3.0, -5.0],
            ("bp", 0): [4.0, 4.0],
            ("bp", 1): [4.0, 4.0],
        }
    )
    summary = summarise_comparison(runs, table)
    assert list(summary["method"]) == ["bp", "lfnn_l"]
    row = summary.set_index("method").loc["lfnn_l"]
    assert row["mae_years"] == pytest.approx(3.0)
    assert row["mae_seed_std_years"] == pytest.approx(np.std([2.0, 4.0], ddof=1))
    assert row["mae_difference_years"] == pytest.approx(-1.0)
    assert (row["n_runs"], row["n_scans"]) == (2, 2)
    assert row["seconds_per_epoch"] == pytest.approx(2.5)
    assert (row["seconds_per_epoch_low"], row["seconds_per_epoch_high"]) == (2.0, 3.0)


def test_difference_is_paired_so_that_hard_scans_do_not_blur_it():
    hard = np.random.default_rng(0).gamma(1.0, 8.0, 40)
    table = predictions({("bp", 0): list(hard + 1.0), ("lfnn_l", 0): list(hard)})
    runs = comparison_table([run("bp", 0), run("lfnn_l", 0)])
    row = summarise_comparison(runs, table).set_index("method").loc["lfnn_l"]
    assert row["mae_difference_ci_low"] == pytest.approx(-1.0)
    assert row["mae_difference_ci_high"] == pytest.approx(-1.0)


def test_seed_that_only_one_method_finished_does_not_enter_the_difference():
    table = predictions(
        {("bp", 0): [4.0, 4.0], ("lfnn_l", 0): [3.0, 3.0], ("lfnn_l", 1): [90.0, 90.0]}
    )
    runs = comparison_table([run("bp", 0), run("lfnn_l", 0), run("lfnn_l", 1)])
    row = summarise_comparison(runs, table).set_index("method").loc["lfnn_l"]
    assert row["mae_difference_years"] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("times", "median", "reached"),
    [([10.0, 30.0, None], 30.0, 2), ([10.0, None, None], None, 1), ([None] * 3, None, 0)],
)
def test_run_that_never_reaches_the_target_counts_as_slowest(times, median, reached):
    rows = [run("lfnn_l", seed, seconds_to_target=time) for seed, time in enumerate(times)]
    table = predictions({("lfnn_l", seed): [1.0, 2.0] for seed in range(3)})
    row = summarise_comparison(comparison_table(rows), table).iloc[0]
    assert row["runs_reaching_target"] == reached
    assert pd.isna(row["seconds_to_target"]) if median is None else row["seconds_to_target"] == 30.0


def test_schedules_of_one_method_are_told_apart_or_refused():
    rows = [run("lfnn_l", 0), run("lfnn_l", 0, schedule="progressive")]
    table = predictions({("lfnn_l", 0): [1.0, 2.0]})
    with pytest.raises(CohortError, match="lacks column schedule"):
        summarise_comparison(comparison_table(rows), table)
    both = pd.concat(
        [
            table.assign(schedule="sequential"),
            table.assign(schedule="progressive", predicted_age_years=50.0),
        ]
    )
    summary = summarise_comparison(comparison_table(rows), both)
    assert list(summary["mae_years"]) == [1.5, 0.0]
    assert "lfnn_l (progressive)" in comparison_markdown(summary)


def test_method_without_predictions_is_refused():
    with pytest.raises(CohortError, match="no row of method 'lfnn_l'"):
        summarise_comparison(
            comparison_table([run("bp", 0), run("lfnn_l", 0)]), predictions({("bp", 0): [1.0]})
        )


def test_markdown_has_a_line_for_each_method_with_numbers():
    runs = comparison_table([run("bp", 0), run("lfnn_l", 0, seconds_to_target=None)])
    table = predictions({("bp", 0): [4.0, 6.0], ("lfnn_l", 0): [3.0, 4.0]})
    lines = comparison_markdown(summarise_comparison(runs, table)).splitlines()
    assert lines[2].startswith(
        "| bp | 1 | 5.00 [4.00, 6.00] | reference | 2.00 | 20.0, 1 of 1 runs |"
    )
    assert lines[3].startswith("| lfnn_l | 1 | 3.50 [3.00, 4.00] | -1.50 [")
    assert "| –, 0 of 1 runs |" in lines[3]
    assert len({line.count("|") for line in lines[:4]}) == 1
