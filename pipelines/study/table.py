"""From runs to a table: mean and interval over seeds, with the paper's numbers beside ours."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    table: pd.DataFrame
    axes: tuple[str, ...]
    metrics: tuple[str, ...]
    curves: pd.DataFrame


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
    """
    grouped = runs.groupby(list(axes), sort=False, dropna=False)
    table = grouped[list(metrics)].mean()
    for metric in metrics:
        table[f"{metric}_half_width"] = grouped[metric].agg(student_half_width)
    table.insert(0, "seeds", grouped.size())
    return table.reset_index()


def student_half_width(values: "pd.Series[float]") -> float:
    """Half-width of Student's 95 % interval of a mean; NaN for a single value."""
    quantile = stats.t.ppf(0.5 + LEVEL / 2, max(len(values) - 1, 1))
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
        numbers = table[[*DIFFERENCE_COLUMNS, results.metrics[0]]].itertuples(index=False)
        shown["minus base [95 %]"] = [
            "—" if np.isnan(value) else _bracketed(*row) for *row, value in numbers
        ]
    shown["seeds"] = table["seeds"].map(str)
    lines = [" | ".join(row) for row in [list(shown.columns), *shown.to_numpy().tolist()]]
    lines.insert(1, " | ".join("---" for _ in shown.columns))
    body = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([f"## {title}", *notes, body]) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "—" if np.isnan(value) else f"{value:g}"
    return str(value)


def _bracketed(mean: float, low: float, high: float) -> str:
    return "base" if np.isnan(mean) else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _measured(mean: float, half: float) -> str:
    if np.isnan(mean):
        return "—"
    digits = 2 if abs(mean) >= 1 else 3
    interval = "" if np.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:.{digits}f}{interval}"
