"""Write the tables, numbers and pictures that several commands share."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainage.cohorts.splits import Split
from brainage.errors import CohortError
from brainage.evaluation.baselines import baseline_metrics
from brainage.evaluation.bounds import INTERVAL_COLUMNS
from brainage.evaluation.conformal import coverage_table
from brainage.evaluation.left_out import left_out_markdown, left_out_table
from brainage.evaluation.metrics import age_metrics, subgroup_metrics
from brainage.evaluation.ood import OutOfDistribution, fit_ood
from brainage.evaluation.out_of_fold import (
    baseline_column,
    baseline_markdown,
    baseline_table,
    baselines_in,
    records,
)
from brainage.files import atomic_write_text
from brainage.inference.predict import INTERVAL_LEVEL, PREDICTION_COLUMNS
from brainage.types import HalfArray, Json

if TYPE_CHECKING:
    from brainage.training.run import PreparedCohort

MIN_OOD_SUBJECTS = 4
# Tables and numbers that must not outlive the run that they tell of.
RESULT_FILES = (
    "predictions.csv",
    "predictions_by_repeat.csv",
    "metrics.json",
    "coverage.csv",
    "left_out.csv",
    "left_out.md",
    "sites.csv",
    "subgroups.csv",
    "baselines.csv",
    "baselines.md",
    "history.csv",
    "comparison.csv",
    "comparison.md",
    "summary.csv",
    "curves.csv",
)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, whole or not at all."""
    atomic_write_text(path, table.to_csv(index=False))


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    atomic_write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def plot_predictions(table: pd.DataFrame, folder: Path, *, seed: int, synthetic: bool) -> None:
    """Write the usual pictures and the metrics by sex, age band and site."""
    # Matplotlib takes a second to import, and most commands draw nothing.
    from brainage.plotting.figures import (
        plot_error_by_age_band,
        plot_gap_vs_age,
        plot_predicted_vs_true,
    )

    write_table(subgroup_metrics(table, seed=seed), folder / "subgroups.csv")
    for name, plot in (
        ("predicted_vs_true.png", plot_predicted_vs_true),
        ("gap_vs_age.png", plot_gap_vs_age),
        ("error_by_age_band.png", plot_error_by_age_band),
    ):
        plot(table, folder / name, synthetic=synthetic)


def score(table: pd.DataFrame, seed: int) -> Json:
    """Compute metrics of the network, of its baselines and of its intervals."""
    subjects = list(table["subject_id"])
    age = table["age_years"]
    metrics: Json = dict(
        age_metrics(age, table["predicted_age_years"], subject_ids=subjects, seed=seed)
    )
    baselines = {
        name: table[baseline_column(name)].to_numpy(np.float64) for name in baselines_in(table)
    }
    metrics["baselines"] = baseline_metrics(age, baselines, subject_ids=subjects, seed=seed)
    coverage = coverage_of(table)
    if len(coverage):
        overall = coverage.iloc[0]
        names = ("n", "coverage", "coverage_ci_low", "coverage_ci_high", "mean_width_years")
        metrics["intervals"] = {name: float(overall[name]) for name in names}
    return metrics


def describe_training(prepared: "PreparedCohort", split: Split) -> Json:
    """Collect a bundle's facts about its training data, with the median of the training ages.

    The median, the constant that a model must beat, is rounded to a year: it may be the age of
    one person.
    """
    from brainage.training.run import describe_cohort

    facts = describe_cohort(prepared, split)
    facts["cohort"]["train_median_age_years"] = float(round(np.median(prepared.ages[split.train])))
    return facts


def describe_mae(metrics: Mapping[str, Any]) -> str:
    """Say the error with its interval; a single person has no interval."""
    low, high = metrics["mae_ci_low"], metrics["mae_ci_high"]
    interval = "" if low is None else f"95 % CI {low:.2f} to {high:.2f}, "
    return f"MAE {metrics['mae_years']:.2f} years ({interval}n {metrics['n']})"


def coverage_of(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the coverage of the intervals; no rows where the table has none."""
    if any(name not in table for name in INTERVAL_COLUMNS):
        return pd.DataFrame()
    return coverage_table(table)


def read_level(table: pd.DataFrame, asked: float) -> float:
    """Return the level of a table's intervals: as the table tells it, else as it was asked for.

    Raises
    ------
    CohortError
        If the table tells several.
    """
    told = sorted(set(table[INTERVAL_LEVEL].dropna())) if INTERVAL_LEVEL in table else []
    if len(told) > 1:
        problem = f"intervals are of {len(told)} levels: {', '.join(map(str, told))}."
        raise CohortError("evaluate", problem, "Evaluate the scans of each alone.")
    return float(told[0]) if told else asked


def quality_facts(table: pd.DataFrame, seed: int) -> Json:
    """Compute errors and coverage by subgroup, for a bundle's card."""
    return {
        "subgroups": records(subgroup_metrics(table, seed=seed)),
        "coverage": records(coverage_of(table)),
    }


def write_left_out(folder: Path, table: pd.DataFrame, seed: int) -> str:
    """Write and return the errors on each site by models of the others."""
    left_out = left_out_table(table, seed=seed)
    write_table(left_out, folder / "left_out.csv")
    markdown = left_out_markdown(left_out)
    atomic_write_text(folder / "left_out.md", markdown)
    return markdown


def fit_ood_where_possible(
    arrays: HalfArray, people: pd.DataFrame, seed: int
) -> OutOfDistribution | None:
    """Fit the out-of-distribution score of training scans; None of fewer than 4 people."""
    if people["subject_id"].nunique() < MIN_OOD_SUBJECTS:
        return None
    return fit_ood(arrays, list(people["subject_id"]), seed)


def write_results(
    folder: Path,
    table: pd.DataFrame,
    metrics: Mapping[str, Any],
    seed: int,
    synthetic: bool,
) -> None:
    """Write predictions and metrics, tables of subgroups, intervals and baselines, pictures."""
    first = [*PREDICTION_COLUMNS, *(name for name in INTERVAL_COLUMNS if name in table)]
    columns = [*first, *(name for name in table if name not in first)]
    write_table(table[columns], folder / "predictions.csv")
    write_json(metrics, folder / "metrics.json")
    coverage = coverage_of(table)
    if len(coverage):
        write_table(coverage, folder / "coverage.csv")
    if baselines_in(table):
        baselines = baseline_table(table, seed=seed)
        write_table(baselines, folder / "baselines.csv")
        atomic_write_text(folder / "baselines.md", baseline_markdown(baselines))
    plot_predictions(table, folder, seed=seed, synthetic=synthetic)
