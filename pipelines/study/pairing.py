"""Pair each setting of a study with its base setting: by scan, by image or by seed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from brainage.evaluation.metrics import paired_difference
from pipelines.study.table import DIFFERENCE_COLUMNS, Results, rows_with, student_half_width


def paired_with(
    over: Literal["line", "seed"] = "line", **base: float | str
) -> Callable[[Results], Results]:
    """Add the difference to the runs of the base setting, paired by scan, image or seed.

    A row meets the base row that has its own values on all axes that `base` does not name, seed by
    seed: what only one of the two has counts for neither. Over lines, the errors of a scan or image
    are then averaged over seeds, and the interval resamples people or images (2000 times). Over
    seeds, it is Student's. The base itself, and what has no seed in common with it, is NaN.
    """
    units = ["line", "subject"] if over == "line" else []

    def refine(results: Results) -> Results:
        keys = [*results.axes, *units, "seed"]
        # A run that diverged has no rows, and may have been the only one with a value of an axis.
        rows_of_runs = results.curves.reindex(columns=[*keys, "value"])
        errors = rows_of_runs.groupby(keys, sort=False, dropna=False)["value"].mean()
        table = errors.reset_index()
        rows = []
        for values in results.table[list(results.axes)].itertuples(index=False):
            axes: dict[str, object] = dict(zip(results.axes, values, strict=True))
            own, other = rows_with(table, axes), rows_with(table, axes | base)
            is_base = own.equals(other)
            joined = table[own].merge(table[other], on=[*units, "seed"], suffixes=("", "_base"))
            rows.append(_compare(joined.head(0) if is_base else joined, units))
        added = pd.DataFrame(rows, index=results.table.index)
        return replace(results, table=pd.concat([results.table, added], axis=1), base=base)

    return refine


def _compare(pairs: pd.DataFrame, units: list[str]) -> dict[str, float]:
    if pairs.empty:
        return dict.fromkeys(DIFFERENCE_COLUMNS, np.nan)
    if not units:
        differences = pairs["value"] - pairs["value_base"]
        mean, half = float(differences.mean()), student_half_width(differences)
        return dict(zip(DIFFERENCE_COLUMNS, (mean, mean - half, mean + half), strict=True))
    means = pairs.groupby(units, sort=False, as_index=False)[["value", "value_base"]].mean()
    found = paired_difference(means["value"], means["value_base"], list(means["subject"]))
    numbers = [np.nan if value is None else value for value in found.values()]
    return dict(zip(DIFFERENCE_COLUMNS, numbers, strict=True))
