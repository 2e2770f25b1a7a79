"""Compare learning methods: accuracy, speed, memory, and intervals of the difference.

`runs` has one row for every method, schedule, seed and fold; `predictions` one for every test
scan of such a run. Differences are paired: the same scan, predicted by networks that saw the same
training scans from the same seed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainage.errors import CohortError
from brainage.evaluation.measures import check_columns
from brainage.evaluation.metrics import paired_difference, subject_interval

RUN_COLUMNS = (
    "method",
    "schedule",
    "seed",
    "fold",
    "mae_years",
    "seconds_per_epoch",
    "seconds_to_target",
    "peak_memory_mb",
)
PREDICTION_COLUMNS = (
    "method",
    "seed",
    "fold",
    "scan_id",
    "subject_id",
    "age_years",
    "predicted_age_years",
)
COSTS = ("seconds_per_epoch", "seconds_to_target", "peak_memory_mb")
REFERENCE = "bp"


def seconds_to_target(history: Iterable[Mapping[str, Any]], target: float) -> float | None:
    """Find the training time until the validation MAE first reaches a target.

    Parameters
    ----------
    history : iterable of mapping
        One entry an epoch: `epoch`, `train_seconds_cumulative` (training only, without
        validation, in seconds) and `val_mae_years`, which epochs lack in which the output
        has not learned yet.
    target : float
        Validation MAE in years; in a comparison BP's final one of the same seed and fold.

    Returns
    -------
    float or None
        Seconds of training at the end of the first epoch at or below the target; None if never.
    """
    for row in sorted(history, key=lambda row: int(row["epoch"])):
        if row.get("val_mae_years", math.inf) <= target:
            return float(row["train_seconds_cumulative"])
    return None


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put run rows into the column order of comparison.csv.

    Parameters
    ----------
    rows : sequence of mapping
        One for every method, schedule, seed and fold, with at least `RUN_COLUMNS`;
        `seconds_to_target` is None where the target was never reached.

    Returns
    -------
    pandas.DataFrame
        `RUN_COLUMNS` first, then any further columns; None is an empty cell.

    Raises
    ------
    CohortError
        If a column is missing.
    """
    table = pd.DataFrame([dict(row) for row in rows])
    check_columns(table, RUN_COLUMNS, "comparison")
    table = table[[*RUN_COLUMNS, *(name for name in table if name not in RUN_COLUMNS)]]
    return table.astype(dict.fromkeys(("mae_years", *COSTS), float))


def summarise_comparison(
    runs: pd.DataFrame, predictions: pd.DataFrame, *, seed: int = 0, bootstrap: int = 2000
) -> pd.DataFrame:
    """Condense runs and their predictions to one row a method.

    Parameters
    ----------
    runs : pandas.DataFrame
        Columns `RUN_COLUMNS`.
    predictions : pandas.DataFrame
        Columns `PREDICTION_COLUMNS`; also `schedule` where a method ran under several.
    seed, bootstrap : int
        Seed and number of resamples of the subjects.

    Returns
    -------
    pandas.DataFrame
        One row for every method and schedule, in their first order, `bp` first: `method`,
        `schedule`, `n_runs`, `n_scans`; `mae_years` with `mae_ci_low`, `mae_ci_high` (errors
        averaged over seeds, then bootstrap over subjects) and `mae_seed_std_years` (standard
        deviation over seeds; empty for one seed); `mae_difference_years` to bp with
        `mae_difference_ci_low`, `mae_difference_ci_high` (paired by seed, fold and scan; below 0
        is better than bp; empty without bp); for each of `seconds_per_epoch`,
        `seconds_to_target` and `peak_memory_mb` the median and `…_low`, `…_high` (least and
        greatest). A run that never reached the target counts as slower than any other, so the
        median may be empty; `runs_reaching_target` counts those that did.

    Raises
    ------
    CohortError
        If a column is missing, a method has no predictions, or schedules cannot be told apart.
    """
    check_columns(runs, RUN_COLUMNS, "comparison runs")
    check_columns(predictions, PREDICTION_COLUMNS, "comparison predictions")
    errors = _scan_errors(runs, predictions)
    pairs = list(runs[["method", "schedule"]].drop_duplicates().itertuples(index=False, name=None))
    pairs.sort(key=lambda pair: pair[0] != REFERENCE)
    reference = errors.get(pairs[0]) if pairs and pairs[0][0] == REFERENCE else None
    rows = []
    for method, schedule in pairs:
        if (method, schedule) not in errors:
            raise CohortError(
                "comparison predictions", f"has no row of method {method!r}, schedule {schedule!r}."
            )
        part = runs[(runs["method"] == method) & (runs["schedule"] == schedule)]
        own = errors[method, schedule]
        rows.append(
            {
                "method": method,
                "schedule": schedule,
                "n_runs": len(part),
                **_accuracy(own, seed, bootstrap),
                **_difference(
                    own, reference, is_reference=own is reference, seed=seed, n=bootstrap
                ),
                **_costs(part),
            }
        )
    return pd.DataFrame(rows)


def comparison_markdown(summary: pd.DataFrame) -> str:
    """Write the summary as a Markdown table.

    Parameters
    ----------
    summary : pandas.DataFrame
        Result of `summarise_comparison`.

    Returns
    -------
    str
        The table, one method a line, and a line that says what the brackets hold.
    """
    header = (
        "Method",
        "Runs",
        "MAE, years",
        "MAE − BP, years",
        "s per epoch",
        "s to BP's validation MAE",
        "Peak memory, MB",
    )
    several = summary["method"].duplicated().any()
    lines = [header, ("---", *["---:"] * (len(header) - 1))]
    for row in summary.to_dict("records"):
        reached = f"{row['runs_reaching_target']} of {row['n_runs']} runs"
        difference = (row["mae_difference_ci_low"], row["mae_difference_ci_high"])
        lines.append(
            (
                f"{row['method']} ({row['schedule']})" if several else str(row["method"]),
                str(row["n_runs"]),
                _bracketed(row["mae_years"], row["mae_ci_low"], row["mae_ci_high"], ".2f"),
                "reference"
                if row["method"] == REFERENCE and row["mae_difference_years"] == 0
                else _bracketed(row["mae_difference_years"], *difference, "+.2f"),
                _cost_cell(row, "seconds_per_epoch", ".2f"),
                f"{_cost_cell(row, 'seconds_to_target', '.1f')}, {reached}",
                _cost_cell(row, "peak_memory_mb", ".0f"),
            )
        )
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"{table}\n\nMAE and difference: mean [95 % interval over subjects]; a difference below 0 "
        "is better than BP. Seconds and memory: median [least, greatest] over runs.\n"
    )


def _scan_errors(runs: pd.DataFrame, predictions: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Compute absolute errors by (seed, fold, scan_id, subject_id) of each method and schedule."""
    if "schedule" not in predictions:
        schedules = runs[["method", "schedule"]].drop_duplicates()
        if schedules["method"].duplicated().any():
            raise CohortError(
                "comparison predictions",
                "lacks column schedule, and a method ran under several schedules.",
                "Add the column.",
            )
        predictions = predictions.merge(schedules, on="method")
    error = (predictions["predicted_age_years"] - predictions["age_years"]).abs()
    table = predictions.assign(error=error)
    keys = ["seed", "fold", "scan_id", "subject_id"]
    return {
        (str(method), str(schedule)): part.set_index(keys)["error"]
        for (method, schedule), part in table.groupby(["method", "schedule"], sort=False)
    }


def _accuracy(errors: pd.Series, seed: int, bootstrap: int) -> dict[str, Any]:
    by_scan = errors.groupby(level=["scan_id", "subject_id"]).mean()
    by_seed = errors.groupby(level="seed").mean()
    subjects = list(by_scan.index.get_level_values("subject_id"))
    low, high = subject_interval(by_scan.to_numpy(), subjects, seed=seed, bootstrap=bootstrap)
    return {
        "n_scans": len(by_scan),
        "mae_years": float(by_scan.mean()),
        "mae_ci_low": low,
        "mae_ci_high": high,
        "mae_seed_std_years": float(by_seed.std()) if len(by_seed) > 1 else np.nan,
    }


def _difference(
    errors: pd.Series, reference: pd.Series | None, *, is_reference: bool, seed: int, n: int
) -> dict[str, Any]:
    names = ("mae_difference_years", "mae_difference_ci_low", "mae_difference_ci_high")
    if is_reference:
        return dict.fromkeys(names, 0.0)
    if reference is None:
        return dict.fromkeys(names, np.nan)
    # Pair before averaging: a seed that only one method finished must not weigh on one side.
    both = pd.concat({"own": errors, "reference": reference}, axis=1, join="inner")
    if both.empty:
        return dict.fromkeys(names, np.nan)
    by_scan = both.groupby(level=["scan_id", "subject_id"]).mean()
    subjects = list(by_scan.index.get_level_values("subject_id"))
    own, other = by_scan["own"].to_numpy(), by_scan["reference"].to_numpy()
    result = paired_difference(own, other, subjects, seed, n)
    return dict(zip(names, result.values(), strict=True))


def rank_unreached(runs: pd.DataFrame) -> pd.DataFrame:
    """Sort runs that never reach the target as slower than any number, not as missing."""
    seconds = runs["seconds_to_target"].astype(float)
    return runs.assign(seconds_to_target=seconds.fillna(np.inf))


def _costs(part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {}
    ranked = rank_unreached(part)
    for name in COSTS:
        values = part[name].astype(float)
        median = float(ranked[name].astype(float).median())
        row |= {
            name: median if np.isfinite(median) else np.nan,
            f"{name}_low": float(values.min()),
            f"{name}_high": float(values.max()),
        }
    return {**row, "runs_reaching_target": int(part["seconds_to_target"].notna().sum())}


def _bracketed(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None or pd.isna(value):
        return "–"
    if low is None or high is None or pd.isna(low) or pd.isna(high) or low == high == value:
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _cost_cell(row: Mapping[Any, Any], name: str, form: str) -> str:
    return _bracketed(row[name], row[f"{name}_low"], row[f"{name}_high"], form)
