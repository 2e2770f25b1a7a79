"""Errors on cohorts that a model has not seen: one row for each site that was left out."""

from typing import Any

import numpy as np
import pandas as pd

from brainage.evaluation.bounds import INTERVAL_COLUMNS
from brainage.evaluation.conformal import coverage_table
from brainage.evaluation.measures import check_columns
from brainage.evaluation.metrics import age_metrics
from brainage.evaluation.new_site import CONTROLS, calibration_gain
from brainage.types import Json

FAR_YEARS = 15.0
"""An error in years that misleads the reader of an age."""


def pool_left_out(facts: Json) -> tuple[int, float, float] | None:
    """Return on how many scans of sites left out a model was tried, and how far off it was.

    Parameters
    ----------
    facts : dict
        Of a bundle.

    Returns
    -------
    tuple of int, float and float, optional
        Scans, mean absolute error in years, share off by more than `FAR_YEARS`; None where no
        site was left out, or the model was fitted to a site's own people since.

    Examples
    --------
    >>> rows = [{"n": 1, "mae_years": 6.0, "far_share": 0.0},
    ...         {"n": 3, "mae_years": 8.0, "far_share": 0.2}]
    >>> pool_left_out({"left_out": rows, "left_out_calibration": {"kind": "absolute"}})
    (4, 7.5, 0.15)
    """
    rows = facts.get("left_out")
    if not rows or not facts.get("left_out_calibration"):
        return None
    counts = [row["n"] for row in rows]
    mae, far = (
        float(np.average([row[name] for row in rows], weights=counts))
        for name in ("mae_years", "far_share")
    )
    return sum(counts), mae, round(far, 6)


def left_out_table(table: pd.DataFrame, *, seed: int = 0, bootstrap: int = 2000) -> pd.DataFrame:
    """Measure predictions on each site, which none of their models was trained on.

    Parameters
    ----------
    table : pandas.DataFrame
        `site`, `subject_id`, `age_years`, `predicted_age_years`, and intervals where known.
    seed, bootstrap : int
        Of the intervals, as in `age_metrics`.

    Returns
    -------
    pandas.DataFrame
        One row a site, in alphabetical order: `site`, `n`, `mae_years`, `mae_ci_low`,
        `mae_ci_high`, `r`, `bias_years`, `gap_slope`, `far_share` (of scans off by more than
        `FAR_YEARS`), `coverage` and `mean_width_years` of the intervals, and of 40 people or more
        `controls_gain_years`, by how much `brainage calibrate` with 20 of them lowers the error.

    Raises
    ------
    CohortError
        If a column is missing.

    Examples
    --------
    >>> table = pd.DataFrame({
    ...     "site": ["a", "a", "b", "b"],
    ...     "subject_id": ["1", "2", "3", "4"],
    ...     "age_years": [20.0, 40.0, 30.0, 50.0],
    ...     "predicted_age_years": [24.0, 38.0, 30.0, 70.0],
    ... })
    >>> left_out_table(table)[["site", "mae_years", "far_share"]].values.tolist()
    [['a', 3.0, 0.0], ['b', 10.0, 0.5]]
    """
    check_columns(table, ("site", "subject_id", "age_years", "predicted_age_years"), "left out")
    kept = ("n", "mae_years", "mae_ci_low", "mae_ci_high", "r", "bias_years", "gap_slope")
    rows: list[dict[str, Any]] = []
    for site, part in table.groupby("site"):
        age, predicted = (
            part[name].to_numpy(np.float64) for name in ("age_years", "predicted_age_years")
        )
        subjects = list(part["subject_id"].astype(str))
        metrics = age_metrics(age, predicted, subject_ids=subjects, seed=seed, bootstrap=bootstrap)
        row: dict[str, Any] = {"site": str(site), **{name: metrics[name] for name in kept}}
        row["far_share"] = float((np.abs(predicted - age) > FAR_YEARS).mean())
        if all(name in part for name in INTERVAL_COLUMNS):
            coverage = coverage_table(part)
            if len(coverage):
                overall = coverage.iloc[0]
                row |= {name: float(overall[name]) for name in ("coverage", "mean_width_years")}
        gain = calibration_gain(age, predicted, subject_ids=subjects, seed=seed)
        if gain is not None:
            row["controls_gain_years"] = gain["gain_years"]
        rows.append(row)
    return pd.DataFrame(rows)


def left_out_markdown(table: pd.DataFrame) -> str:
    """Write the result of `left_out_table` as a Markdown table."""
    lines = [
        f"| left out | n | MAE, years [95 %] | r | mean gap | off by more than {FAR_YEARS:g} "
        f"| gain by {CONTROLS} controls |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in table.to_dict("records"):
        low, high = row["mae_ci_low"], row["mae_ci_high"]
        bounds = "" if pd.isna(low) else f" [{low:.2f}, {high:.2f}]"
        r = "–" if pd.isna(row["r"]) else f"{row['r']:.2f}"
        gain = row.get("controls_gain_years")
        controls = "–" if pd.isna(gain) else f"{gain:+.2f}"
        lines.append(
            f"| {row['site']} | {row['n']} | {row['mae_years']:.2f}{bounds} | {r} "
            f"| {row['bias_years']:+.2f} | {row['far_share']:.1%} | {controls} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "Intervals resample subjects. Gain: years that `brainage calibrate` takes off the MAE.",
            "",
        ]
    )
