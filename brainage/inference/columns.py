"""Numbers beside each predicted age: spread, interval, percentile. Numpy alone."""

from typing import Protocol

import numpy as np

from brainage.evaluation.bounds import DEFAULT_LEVEL, INTERVAL_COLUMNS
from brainage.types import DoubleArray

NUMBER_COLUMNS = (*INTERVAL_COLUMNS, "spread_years", "ood_percentile")


class Intervals(Protocol):
    """What puts intervals around predicted ages, such as a fitted `ConformalInterval`."""

    def predict(
        self, predicted_age_years: DoubleArray, spread_years: DoubleArray, level: float
    ) -> DoubleArray:
        """Return low and high in years (N, 2)."""


def number_columns(
    predicted_age_years: DoubleArray,
    spread_years: DoubleArray,
    percentile: DoubleArray | None,
    intervals: Intervals | None,
    level: float = DEFAULT_LEVEL,
) -> dict[str, DoubleArray]:
    """Collect predicted ages with spread, interval and out-of-distribution percentile.

    Parameters
    ----------
    predicted_age_years, spread_years : numpy.ndarray of float64 (N,)
    percentile : numpy.ndarray of float64 (N,), optional
        How unlike the training scans each scan is.
    intervals : Intervals, optional
        Of a new scan.
    level : float
        Share of ages that the intervals shall hold.

    Returns
    -------
    dict of numpy.ndarray of float64 (N,)
        `predicted_age_years` and `NUMBER_COLUMNS`; NaN where unknown.
    """
    unknown = np.full(len(predicted_age_years), np.nan)
    columns = dict.fromkeys(NUMBER_COLUMNS, unknown)
    columns["spread_years"] = spread_years
    if percentile is not None:
        columns["ood_percentile"] = percentile
    if intervals is not None:
        bounds = intervals.predict(predicted_age_years, spread_years, level)
        columns |= dict(zip(INTERVAL_COLUMNS, bounds.T, strict=True))
    return {"predicted_age_years": predicted_age_years, **columns}
