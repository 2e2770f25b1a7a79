"""Numbers of how far a predicted age moves when a scan is changed."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

LARGE_YEARS = 1.5
YEARS = ("median_years", "p95_years", "largest_years")
SHARES = ("ok", "flagged", "failed", "large_yet_ok")


def summarise_robustness(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Summarise the absolute changes of the predicted age.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row a scan and perturbation: `change_years` (NaN where the scan failed), `verdict` and
        the columns of `by`.
    by : sequence of str
        Columns that rows are grouped by.

    Returns
    -------
    pandas.DataFrame
        `n`, failed ones included; `median_years`, `p95_years` and `largest_years` of |change| of
        those that did not fail; shares `ok`, `flagged` and `failed`; `large_yet_ok`: the share of
        changes above `LARGE_YEARS` that the quality gate let pass, NaN where there are none.
    """
    found = []
    for names, part in rows.groupby(list(by), sort=False):
        size, ok = part["change_years"].abs(), part["verdict"] == "ok"
        row: dict[str, Any] = dict(zip(by, names, strict=True))
        row |= {"n": len(part), "median_years": size.median(), "p95_years": size.quantile(0.95)}
        row["largest_years"] = size.max()
        row |= {name: (part["verdict"] == name).mean() for name in ("ok", "flagged", "failed")}
        row["large_yet_ok"] = ok[size > LARGE_YEARS].mean()
        found.append(row)
    return pd.DataFrame(found)


def robustness_markdown(summary: pd.DataFrame, name: str) -> str:
    """Write a summary as a Markdown table; `name` is the column that its lines are called by."""
    head = [name, "input", "n", "median, years", "95 %", "largest", "ok", "flagged", "failed"]
    lines = [[*head, f"> {LARGE_YEARS:g} yet ok"], ["---", "---", *["---:"] * 8]]
    for row in summary.to_dict("records"):
        years = [_format(row[key], ".2f") for key in YEARS]
        shares = [_format(row[key], ".0%") for key in SHARES]
        lines.append([row[name], row["input"], str(row["n"]), *years, *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe_training_share(in_training: int, scans: int) -> str:
    """Say how many of the scans trained the model: what they show is better than for others."""
    if not in_training:
        return f"None of the {scans} scans is of a person in training."
    return (
        f"{in_training} of the {scans} scans are of people in training: the ages of others move "
        "more."
    )


def _format(value: float | None, form: str) -> str:
    return "" if value is None or pd.isna(value) else format(value, form)
