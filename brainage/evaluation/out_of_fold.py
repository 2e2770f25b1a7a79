"""Out-of-fold predictions of repeated cross-validation, and the network beside its baselines."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainage.evaluation.measures import check_columns
from brainage.evaluation.metrics import age_metrics, paired_difference
from brainage.types import BASELINES

PREDICTED = "predicted_age_years"


def baseline_column(name: str) -> str:
    """Return column of a baseline's predictions."""
    return f"{name}_{PREDICTED}"


def baselines_in(table: pd.DataFrame) -> list[str]:
    """Return names of the baselines whose predictions the table has."""
    return [name for name in BASELINES if baseline_column(name) in table]


def average_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Average predictions over repeats of the cross-validation: one row a scan.

    Parameters
    ----------
    table : pandas.DataFrame
        One row for every scan and repeat: `scan_id`, `repeat`, `fold`, `age_years`,
        `predicted_age_years`, `spread_years`, predictions of baselines, and what is known of
        the scan.

    Returns
    -------
    pandas.DataFrame
        In the order of the first repeat, whose `fold` is kept; `spread_years` is that of the
        mixture of the repeats' distributions. Intervals are left out: they belong to one repeat.

    Raises
    ------
    CohortError
        If a column is missing.
    """
    check_columns(table, ("scan_id", "repeat", "fold", PREDICTED, "spread_years"), "out of fold")
    table = table.drop(columns=[name for name in table if str(name).startswith("interval_")])
    first = table[table["repeat"] == table["repeat"].min()].reset_index(drop=True)
    groups = table.groupby("scan_id", sort=False)
    names = [PREDICTED, *(baseline_column(name) for name in baselines_in(table))]
    means = groups[names].mean().loc[first["scan_id"]]
    within = table.assign(square=table["spread_years"] ** 2).groupby("scan_id")["square"].mean()
    between = groups[PREDICTED].var(ddof=0)
    spread = np.sqrt((within + between).loc[first["scan_id"]].to_numpy())
    columns = {name: means[name].to_numpy() for name in names}
    joined = first.assign(**columns, spread_years=spread).drop(columns="repeat")
    return joined.assign(brain_age_gap_years=joined[PREDICTED] - joined["age_years"])


def baseline_table(
    table: pd.DataFrame,
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    bootstrap: int = 2000,
) -> pd.DataFrame:
    """Compare the network with each baseline on the same scans, by paired differences.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, `predicted_age_years`, `subject_id` and `{name}_predicted_age_years`.
    names : sequence of str, optional
        Of the other models; absent: the baselines that the table has.

    Returns
    -------
    pandas.DataFrame
        One row for the network and each baseline: `model`, `n`, `mae_years` with interval, `r`,
        `bias_years`, `gap_slope`, and `network_minus_years` with `…_ci_low`, `…_ci_high`: the
        network's absolute error minus this baseline's, paired by scan (below 0: the network is
        better). `best_baseline` marks the baseline with the smallest MAE.
    """
    subjects = list(table["subject_id"].astype(str))
    age = table["age_years"].to_numpy(np.float64)
    own = np.abs(table[PREDICTED].to_numpy(np.float64) - age)
    rows: list[dict[str, Any]] = []
    for name in ("network", *(baselines_in(table) if names is None else names)):
        column = PREDICTED if name == "network" else baseline_column(name)
        predicted = table[column].to_numpy(np.float64)
        metrics = age_metrics(age, predicted, subject_ids=subjects, seed=seed, bootstrap=bootstrap)
        kept = ("n", "mae_years", "mae_ci_low", "mae_ci_high", "r", "bias_years", "gap_slope")
        row: dict[str, Any] = {"model": name, **{key: metrics[key] for key in kept}}
        if name != "network":
            paired = paired_difference(own, np.abs(predicted - age), subjects, seed, bootstrap)
            row |= {
                "network_minus_years": paired["mean"],
                "network_minus_ci_low": paired["ci_low"],
                "network_minus_ci_high": paired["ci_high"],
            }
        rows.append(row)
    errors = {row["model"]: row["mae_years"] for row in rows[1:]}
    best = min(errors, key=lambda name: errors[name]) if errors else ""
    return pd.DataFrame(rows).assign(best_baseline=lambda t: t["model"] == best)


def baseline_markdown(summary: pd.DataFrame) -> str:
    """Write the result of `baseline_table` as a Markdown table."""
    lines = [
        "| model | n | MAE, years [95 %] | r | mean gap | network − model, years [95 %] |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in summary.to_dict("records"):
        mark = " (best baseline)" if row["best_baseline"] else ""
        difference = _bracketed(row, "network_minus_years", "network_minus", "+.2f")
        lines.append(
            f"| {row['model']}{mark} | {row['n']} | {_bracketed(row, 'mae_years', 'mae', '.2f')} "
            f"| {_shown(row['r'], '.2f')} | {row['bias_years']:+.2f} | {difference} |"
        )
    note = "Intervals resample subjects; a difference below 0 means that the network is better."
    return "\n".join([*lines, "", note, ""])


def _bracketed(row: Any, value: str, bounds: str, form: str) -> str:
    if pd.isna(row.get(value)):
        return "–"
    low, high = row[f"{bounds}_ci_low"], row[f"{bounds}_ci_high"]
    if low is None or pd.isna(low):
        return f"{row[value]:{form}}"
    return f"{row[value]:{form}} [{low:{form}}, {high:{form}}]"


def _shown(value: Any, form: str) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:{form}}"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values for a JSON file; missing ones are None."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]
