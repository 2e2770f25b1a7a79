"""Metrics of one run that put methods side by side in MLflow's charts."""

import pandas as pd

from brainage.evaluation.comparison import rank_unreached
from brainage.tracking import SPEED_BARS, log_overview


class Recorder:
    def __init__(self):
        self.metrics = {}

    def log_metrics(self, metrics, step=0):
        self.metrics |= {(name, step): value for name, value in metrics.items()}


RUNS = pd.DataFrame(
    {
        "method": ["bp", "bp", "bp", "lfnn_l"],
        "mae_years": [5.0, 6.0, 100.0, 4.0],
        "seconds_per_epoch": [2.0, 2.0, 2.0, 1.0],
        "seconds_to_target": [9.0, 9.0, 9.0, float("nan")],
        "peak_memory_mb": [30.0, 30.0, 30.0, 20.0],
    }
)


def test_bars_are_medians_and_curves_are_means_of_each_method():
    curves = pd.DataFrame(
        {"method": ["bp", "bp", "bp"], "epoch": [1, 1, 2], "val_mae_years": [8.0, 6.0, 5.0]}
    )
    run = Recorder()
    log_overview(run, RUNS, curves)
    assert run.metrics["test_mae_years/bp", 0] == 6.0
    assert run.metrics["peak_memory_mb/lfnn_l", 0] == 20.0
    assert run.metrics["val_mae_years/bp", 1] == 7.0
    assert run.metrics["val_mae_years/bp", 2] == 5.0


def test_error_is_that_of_the_table_and_not_the_median_of_folds():
    run = Recorder()
    log_overview(run, RUNS, pd.DataFrame(), errors={"bp": 5.5, "lfnn_l": 4.1})
    assert run.metrics["test_mae_years/bp", 0] == 5.5
    assert run.metrics["test_mae_years/lfnn_l", 0] == 4.1


def test_run_that_never_reaches_the_target_counts_as_slowest_as_in_the_table():
    never = {"seconds_to_target": [float("nan"), 8.0, 9.0, 7.0]}
    run, runs = Recorder(), RUNS.assign(**never)
    log_overview(run, rank_unreached(runs), pd.DataFrame())
    assert run.metrics["seconds_to_target/bp", 0] == 9.0


def test_name_of_an_entrant_opens_no_section_of_its_own():
    laps = pd.DataFrame([{"method": "k=4/b lfnn_l", **dict.fromkeys(SPEED_BARS, 1.0)}])
    run = Recorder()
    log_overview(run, laps, pd.DataFrame(), SPEED_BARS)
    assert ("seconds_per_step/k 4 b lfnn_l", 0) in run.metrics
    assert all(name.count("/") == 1 for name, _ in run.metrics)
