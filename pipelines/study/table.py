"""From runs to a table: mean and interval over seeds, with the paper's numbers beside ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from pipelines.study.reference import Row

LEVEL = 0.95
REDUCED = "reduced budget"
DIFFERENCE = "minus_base"
DIFFERENCE_COLUMNS = (DIFFERENCE, "minus_base_ci_low", "minus_base_ci_high")
"""A setting's error minus that of its base setting, paired by scan or image, and its interval."""


@dataclass(frozen=True)
class Results:
    """What a study gave.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each combination of `axes`: mean over seeds of each of `metrics`,
        `<metric>_half_width` of its 95 % interval, `<metric>_paper` where the paper reports one.
    curves : pandas.DataFrame
        Rows of all curves, with the axes and the seed of their run; may be empty.
    base : mapping
        Axis values of the row that others are paired with, where they are.
    """

    table: pd.DataFrame
    axes: tuple[str, ...]
    metrics: tuple[str, ...]
    curves: pd.DataFrame
    base: Mapping[str, object] = field(default_factory=dict)


def rows_with(table: pd.DataFrame, axes: Mapping[str, object]) -> "pd.Series[bool]":
    """Find rows with these values; numbers and names are told apart by how they are written."""
    kept = pd.Series(True, index=table.index)
    for name, value in axes.items():
        # An axis that the other settings of the plan have, and none that was run.
        column = table[name] if name in table else pd.Series(np.nan, index=table.index)
        kept &= column.isna() if value != value else column.astype(str) == str(value)
    return kept


def summarise(runs: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and 95 % Student interval of each metric over seeds.

    Parameters
    ----------
    runs : pandas.DataFrame
        One row a run: axes, `seed` and metrics.
    axes : sequence of str
        What tells the table's rows apart; kept in the order in which they first come.

    Returns
    -------
    pandas.DataFrame
        Axes, `seeds`, and for each metric its mean and `<metric>_half_width`, NaN for one seed.
        Seeds whose run diverged have no number: they are counted in `diverged` instead, a column
        that is there where any did.
    """
    grouped = runs.groupby(list(axes), sort=False, dropna=False)
    table = grouped[list(metrics)].mean()
    for metric in metrics:
        table[f"{metric}_half_width"] = grouped[metric].agg(student_half_width)
    table.insert(0, "seeds", grouped[metrics[0]].count() if metrics else 0)
    if (diverged := grouped.size() - table["seeds"]).any():
        table["diverged"] = diverged
    return table.reset_index()


def student_half_width(values: "pd.Series[float]") -> float:
    """Half-width of Student's 95 % interval of a mean; NaN for a single value. NaN is none."""
    values = values.dropna()
    if len(values) < 2:
        return np.nan
    quantile = stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def beside_paper(
    table: pd.DataFrame, reference: Sequence[Row], metrics: Sequence[str]
) -> pd.DataFrame:
    """Add `<metric>_paper` where the paper reports a number for the same axis values, else NaN.

    A single row without axes stands beside every row of ours; rows with axes that our table does
    not have stand nowhere.
    """
    numbers = pd.DataFrame(list(reference))
    known = [metric for metric in metrics if metric in numbers]
    axes = [name for name in numbers if name not in known]
    numbers = numbers.rename(columns={metric: f"{metric}_paper" for metric in known})
    if not axes and len(numbers) == 1:
        return table.merge(numbers, how="cross")
    if not axes or not set(axes) <= set(table):
        return table
    return table.merge(numbers, how="left", on=axes)


def to_markdown(
    results: Results, *, title: str, notes: Sequence[str], source: str = "paper's"
) -> str:
    """Write the table for people: ours as mean ± half-width, reported numbers beside them.

    Where it has methods, the class of each stands in the next column: isolated, crossing, delayed,
    deep supervision, and what is no local learning (end to end, feedback).
    """
    table = results.table
    shown = pd.DataFrame({axis.replace("_", " "): table[axis].map(_plain) for axis in results.axes})
    if "family" in table:
        shown.insert(list(shown).index("method") + 1, "class", table["family"])
    for metric in results.metrics:
        name = metric.replace("_", " ")
        halves = table[f"{metric}_half_width"]
        shown[name] = [_measured(m, h) for m, h in zip(table[metric], halves, strict=True)]
        if f"{metric}_paper" in table and table[f"{metric}_paper"].notna().any():
            shown[f"{name}, {source}"] = table[f"{metric}_paper"].map(_plain)
    if DIFFERENCE in table:
        numbers = table[list(DIFFERENCE_COLUMNS)].itertuples(index=False)
        shown["minus base [95 %]"] = [
            "base" if is_base else _bracketed(*row)
            for row, is_base in zip(numbers, rows_with(table, results.base), strict=True)
        ]
    shown["seeds"] = table["seeds"].map(str)
    if "diverged" in table:
        shown["seeds"] += [f", {count} diverged" if count else "" for count in table["diverged"]]
    lines = [" | ".join(row) for row in [list(shown.columns), *shown.to_numpy().tolist()]]
    lines.insert(1, " | ".join("---" for _ in shown.columns))
    body = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([f"## {title}", *notes, body]) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "—" if np.isnan(value) else f"{value:g}"
    return str(value)


def _bracketed(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return "—"
    return f"{mean:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def _measured(mean: float, half: float) -> str:
    if np.isnan(mean):
        return "—"
    digits = 2 if abs(mean) >= 1 else 3
    interval = "" if np.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:.{digits}f}{interval}"
