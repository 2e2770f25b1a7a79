"""Test-retest reliability of a measure when a person is scanned again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.measures import check_columns, natural_order, read_numbers
from brainage.evaluation.metrics import smallest_detectable_change
from brainage.types import DoubleArray


@dataclass(frozen=True)
class Icc:
    """Intraclass correlation ICC(2,1) and its 95 % interval."""

    icc: float
    icc_ci_low: float
    icc_ci_high: float


@dataclass(frozen=True)
class Reliability:
    """Test-retest numbers of one measure.

    Attributes
    ----------
    measure : str
        Column.
    n_subjects, n_scans : int
        People, and scans of each.
    icc, icc_ci_low, icc_ci_high : float
        ICC(2,1): absolute agreement of single scans.
    within_sd : float
        Within-subject standard deviation, √(mean within-subject variance), in the measure's unit.
    smallest_detectable_change : float
        `brainage.evaluation.metrics.smallest_detectable_change`.
    bias, agreement_low, agreement_high : float
        Mean of second − first scan, and the 95 % limits of agreement (Bland & Altman 1986,
        doi:10.1016/S0140-6736(86)90837-8).
    """

    measure: str
    n_subjects: int
    n_scans: int
    icc: float
    icc_ci_low: float
    icc_ci_high: float
    within_sd: float
    smallest_detectable_change: float
    bias: float
    agreement_low: float
    agreement_high: float


def intraclass_correlation(values: ArrayLike, level: float = 0.95) -> Icc:
    """Compute ICC(2,1): two-way random effects, absolute agreement, single measurement.

    Formulas of Shrout & Fleiss 1979 (doi:10.1037/0033-2909.86.2.420); interval from the F
    distribution with Satterthwaite's degrees of freedom (McGraw & Wong 1996,
    doi:10.1037/1082-989X.1.1.30).

    Parameters
    ----------
    values : array_like (N, K)
        K measurements of each of N subjects.

    Raises
    ------
    ShapeError
        If there are fewer than 2 subjects or 2 measurements.
    CohortError
        If a value is not finite, or all are equal.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        problem = f"expected (N, K) of at least 2 subjects and 2 scans, got {table.shape}."
        raise ShapeError("reliability", problem)
    if not np.isfinite(table).all() or np.ptp(table) == 0:
        raise CohortError("reliability", "values must be finite and not all equal.")
    n, k = table.shape
    rows, columns, error = _mean_squares(table)
    icc = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    # Times the residual, which is 0 where all subjects move alike.
    moved, left = k * icc * columns, (n * (1 + (k - 1) * icc) - k * icc) * error
    if max(abs(moved), abs(left)) < 1e-12 * max(rows, columns):
        return Icc(float(icc), float(icc), float(icc))  # nothing moves, or nobody differs
    numerator = (n - 1) * (k - 1) * (moved + left) ** 2
    freedom = numerator / ((n - 1) * moved**2 + left**2)
    tail = 1 - (1 - level) / 2
    upper_f = stats.f.ppf(tail, n - 1, freedom)
    lower_f = stats.f.ppf(tail, freedom, n - 1)
    spread = k * columns + (k * n - k - n) * error
    low = n * (rows - upper_f * error) / (upper_f * spread + n * rows)
    high = n * (lower_f * rows - error) / (spread + n * lower_f * rows)
    return Icc(float(icc), float(low), float(high))


def measure_reliability(values: ArrayLike, measure: str) -> Reliability:
    """Measure the test-retest reliability of a measure.

    Parameters
    ----------
    values : array_like (N, K)
        K scans of each of N people, in order of time.

    Raises
    ------
    ShapeError, CohortError
        As `intraclass_correlation`.
    """
    table = np.asarray(values, dtype=np.float64)
    result = intraclass_correlation(table)
    within = float(np.sqrt(table.var(axis=1, ddof=1).mean()))
    difference = table[:, 1] - table[:, 0]
    bias, half = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    return Reliability(
        measure,
        len(table),
        table.shape[1],
        **asdict(result),
        within_sd=within,
        smallest_detectable_change=smallest_detectable_change(within),
        bias=bias,
        agreement_low=bias - half,
        agreement_high=bias + half,
    )


def repeated_scans(
    table: pd.DataFrame, columns: Sequence[str], max_years: float = 1.0
) -> dict[str, DoubleArray]:
    """Pair scans of one person that lie close in time.

    Parameters
    ----------
    table : pandas.DataFrame
        `subject_id`, `scan_id`, `age_years` and the columns.
    max_years : float
        Largest distance in age between the two scans of a pair.

    Returns
    -------
    dict of numpy.ndarray of float64 (N, 2)
        For each column the first two scans of each of N people that lie so close.

    Raises
    ------
    CohortError
        If a column is missing or fewer than two people have a pair.
    """
    check_columns(table, ("subject_id", "scan_id", "age_years", *columns), "reliability")
    table = table.assign(**{name: read_numbers(table[name], "reliability") for name in columns})
    ordered = table.dropna(subset=list(columns)).sort_values(
        ["subject_id", "age_years", "scan_id"], key=natural_order
    )
    pairs = []
    for _, part in ordered.groupby("subject_id", sort=True):
        # Unknown ages are no obstacle: scans of one subject id in a retest table are a pair.
        near = ~(np.diff(part["age_years"].to_numpy(np.float64)) > max_years)
        if near.any():
            first = int(near.argmax())
            pairs.append(part.iloc[first : first + 2])
    if len(pairs) < 2:
        problem = f"{len(pairs)} people have two scans within {max_years:g} years."
        raise CohortError("reliability", problem, "At least 2 are needed; see --max-years.")
    return {name: np.stack([part[name].to_numpy(np.float64) for part in pairs]) for name in columns}


def reliability_table(values: dict[str, Any]) -> pd.DataFrame:
    """Measure the reliability of each entry (N, K): one row a measure."""
    return pd.DataFrame([asdict(measure_reliability(v, name)) for name, v in values.items()])


def _mean_squares(table: DoubleArray) -> tuple[float, float, float]:
    """Compute mean squares of a two-way table without replication: subjects, scans, residual."""
    n, k = table.shape
    rows = table.mean(axis=1) - table.mean()
    columns = table.mean(axis=0) - table.mean()
    residual = table - table.mean() - rows[:, None] - columns[None, :]
    return (
        float(k * (rows**2).sum() / (n - 1)),
        float(n * (columns**2).sum() / (k - 1)),
        float((residual**2).sum() / ((n - 1) * (k - 1))),
    )
