"""Columns of tables that are measured: what they are called, their numbers, their order."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainage.errors import CohortError
from brainage.types import MISSING_CODES, DoubleArray


def check_columns(table: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    """Raise unless the table has all of the columns.

    Raises
    ------
    CohortError
        Naming the columns that are missing.
    """
    missing = [column for column in columns if column not in table]
    if missing:
        came = ", ".join(map(str, table.columns)) or "none"
        raise CohortError(where, f"lacks column {', '.join(missing)}; has {came}.")


def as_floats(column: pd.Series) -> pd.Series:
    """Return a column's numbers as float64, NaN where a cell is none.

    By way of text: whole numbers of hundreds of digits are objects, which have no floats.
    """
    return pd.to_numeric(column.astype(str), errors="coerce").astype(np.float64)


def read_numbers(column: pd.Series, where: str) -> DoubleArray:
    """Return a measure's numbers as float64 (N,), NaN where a cell is blank.

    Raises
    ------
    CohortError
        If a cell holds text, or what stands for a missing value: -9, 999 and the like, far from
        all others.
    """
    numbers = as_floats(column)
    text = numbers.isna() & column.notna() & (column.astype(str).str.strip() != "")
    if text.any():
        problem = f"column {column.name} holds {str(column[text].iloc[0])!r}, which is no number."
        raise CohortError(where, problem, "Leave the cell blank, or compare by `brainage groups`.")
    refuse_codes(numbers, where)
    known: DoubleArray = numbers.to_numpy()
    return known


def refuse_codes(
    numbers: pd.Series, where: str, codes: Sequence[float] = MISSING_CODES, least: float = 0.0
) -> None:
    """Refuse numbers among which some stand for a missing value.

    Parameters
    ----------
    numbers : pandas.Series of float64 (N,)
    where : str
        Named in errors.
    codes : sequence of float
        Codes; those below `least` count where all other numbers are `least` or more, others where
        none is half as great.
    least : float

    Raises
    ------
    CohortError
        Naming the column and the code.
    """
    others = numbers[~numbers.isin(codes)]
    low, high = others.min(), others.max()
    for code in codes:
        if (numbers == code).any() and (low >= least > code or 0 <= high < code / 2):
            problem = f"column {numbers.name} holds {code:g}; all else is {low:g} to {high:g}."
            raise CohortError(where, problem, "Leave cells of missing values blank.")


def refuse_copies(table: pd.DataFrame, where: str) -> None:
    """Refuse two scans of a person whose predictions are equal in four decimals.

    They are one scan under two names, which as a retest has no error at all; the batch that a scan
    is predicted in changes the sixth decimal. What other people have too is the answer of a network
    that tells few ages apart, and no sign of a copy.

    Parameters
    ----------
    table : pandas.DataFrame
        `scan_id`, `subject_id`, `predicted_age_years`.

    Raises
    ------
    CohortError
        Naming the first two.
    """
    predicted = table["predicted_age_years"]
    exact = table[predicted.notna() & (predicted.round(2) != predicted)]
    for _, same in exact.groupby(predicted.round(4)):
        if len(same) > 1 and same["subject_id"].nunique() == 1:
            first, second = same["scan_id"].iloc[:2]
            problem = f"scans {first!r} and {second!r} have one prediction, to four decimals."
            raise CohortError(where, problem, "One scan under two names counts once: keep one row.")


def residuals(base: DoubleArray, values: DoubleArray) -> DoubleArray:
    """Return what the columns of `base` (N, terms) leave of values (N,) by least squares."""
    left: DoubleArray = values - base @ np.linalg.lstsq(base, values, rcond=None)[0]
    return left


def refuse_explained(name: str, values: DoubleArray, left: DoubleArray, where: str) -> None:
    """Refuse numbers of which age, sex and site leave rounding errors alone.

    Raises
    ------
    CohortError
        If they are equal, or `left`, the `residuals`, are: a constant prediction's gap is a line
        in age, and errors of 1e-14 have an effect and a p, too.
    """
    spread = float(np.ptp(values))
    if spread <= 1e-12 * np.abs(values).max():
        raise CohortError(where, f"{name}: all {len(values)} values are equal.")
    if np.abs(left).max() <= 1e-9 * spread:
        problem = f"{name}: {len(values)} values do not vary beyond age, sex and site."
        raise CohortError(where, problem, "There is nothing to compare.")


def natural_order(column: pd.Series) -> pd.Series:
    """Give each text a key that sorts numbers in it by size: ses-9 before ses-10.

    For `pandas.DataFrame.sort_values`; columns of numbers stay as they are.

    Examples
    --------
    >>> import pandas as pd
    >>> pd.Series(["ses-10", "ses-9"]).sort_values(key=natural_order).tolist()
    ['ses-9', 'ses-10']
    """
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.astype(str).str.replace(r"\d+", lambda found: found[0].zfill(20), regex=True)
