"""Pair each setting of a study with its base setting: by scan, by image or by seed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from brainage.evaluation.metrics import paired_difference
from pipelines.study.table import DIFFERENCE_COLUMNS, Results, student_half_width


def paired_with(
    over: Literal["line", "seed"] = "line", **base: float | str
) -> Callable[[Results], Results]:
    """Add the difference to the runs of the base setting, paired by scan, image or seed.

    A row meets the base row that has its own values on all axes that `base` does not name; what the
    base has no value of is NaN. Over lines, the errors of a scan or image are averaged over seeds
    first, and the interval resamples people or images (2000 times). Over seeds, it is Student's.
    """
    units = ["line", "subject"] if over == "line" else ["seed"]

    def refine(results: Results) -> Results:
        keys = [*results.axes, *units]
        # A run that diverged has no rows, and may have been the only one with a value of an axis.
        rows_of_runs = results.curves.reindex(columns=[*keys, "value"])
        errors = rows_of_runs.groupby(keys, sort=False, dropna=False)["value"].mean()
        table = errors.reset_index()
        rows = []
        for values in results.table[list(results.axes)].itertuples(index=False):
            axes: dict[str, object] = dict(zip(results.axes, values, strict=True))
            own, other = _where(table, axes), _where(table, axes | base)
            rows.append(_compare(table[own], table[other], units))
        added = pd.DataFrame(rows, index=results.table.index)
        return replace(results, table=pd.concat([results.table, added], axis=1))

    return refine


def _compare(own: pd.DataFrame, base: pd.DataFrame, units: list[str]) -> dict[str, float | None]:
    joined = own.merge(base, on=units, suffixes=("", "_base"))
    if joined.empty or (joined["value"] == joined["value_base"]).all():
        return dict.fromkeys(DIFFERENCE_COLUMNS, np.nan)
    if "seed" in units:
        differences = joined["value"] - joined["value_base"]
        mean, half = float(differences.mean()), student_half_width(differences)
        return dict(zip(DIFFERENCE_COLUMNS, (mean, mean - half, mean + half), strict=True))
    found = paired_difference(joined["value"], joined["value_base"], list(joined["subject"]))
    return dict(
        zip(DIFFERENCE_COLUMNS, (found["mean"], found["ci_low"], found["ci_high"]), strict=True)
    )


def _where(table: pd.DataFrame, axes: Mapping[str, object]) -> "pd.Series[bool]":
    """Rows with these values; numbers and names are told apart by how they are written."""
    kept = pd.Series(True, index=table.index)
    for name, value in axes.items():
        # An axis that the other settings of the plan have, and none that was run.
        column = table[name] if name in table else pd.Series(np.nan, index=table.index)
        kept &= column.isna() if value != value else column.astype(str) == str(value)
    return kept
