"""Bounds around predicted ages from fitted scores: numpy alone, see `conformal`."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from brainage.errors import ConfigError
from brainage.types import DoubleArray

IntervalKind = Literal["absolute", "normalised", "two_sided"]
INTERVAL_COLUMNS = ("interval_low_years", "interval_high_years")
DEFAULT_LEVEL = 0.9

# A network that is certain of a year must not divide by almost nothing.
MIN_SPREAD_YEARS = 1.0


def interval_bounds(
    predicted_age_years: DoubleArray,
    spread_years: DoubleArray,
    edges_years: Sequence[float],
    scores: Sequence[Sequence[float]],
    kind: IntervalKind,
    level: float = DEFAULT_LEVEL,
) -> DoubleArray:
    """Return the interval around each predicted age.

    Parameters
    ----------
    predicted_age_years, spread_years : numpy.ndarray of float64 (N,)
    edges_years : sequence of float
        Predicted ages at which one band ends and the next begins.
    scores : sequence of sequence of float
        Sorted scores of each band.
    level : float
        Share of ages that the intervals shall hold.

    Returns
    -------
    numpy.ndarray of float64 (N, 2)
        Low and high in years; NaN where there are too few people for the level.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    """
    _check_level(level)
    quantiles = np.array([_band_bounds(band, level, kind) for band in scores])
    bounds = quantiles[np.digitize(predicted_age_years, edges_years)]
    bounds = bounds * score_scale(spread_years, kind)[:, None]
    bounds[~np.isfinite(bounds)] = np.nan
    result: DoubleArray = predicted_age_years[:, None] + bounds
    return result


def conformal_quantile(scores: Sequence[float] | DoubleArray, level: float) -> float:
    """Return the ⌈(n + 1)·level⌉-th smallest of n sorted scores; infinite where n is too small.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    """
    _check_level(level)
    # 1e-9 absorbs the rounding of products like 0.9 * 10.
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ConfigError("--level", f"expected a level between 0 and 1, got {level:g}.")


def _band_bounds(scores: Sequence[float], level: float, kind: IntervalKind) -> tuple[float, float]:
    """Return what is added to a prediction for both bounds; infinite if n is too small.

    Two tails need about twice as many people as one; where a band has too few, the absolute
    residuals give both. The prediction itself is never left outside.
    """
    if kind != "two_sided":
        half = conformal_quantile(scores, level)
        return -half, half
    residuals = np.asarray(scores)
    tail = 1 - (1 - level) / 2
    below, above = (conformal_quantile(np.sort(side), tail) for side in (-residuals, residuals))
    if math.isinf(above):
        half = conformal_quantile(np.sort(np.abs(residuals)), level)
        return -half, half
    return min(-below, 0.0), max(above, 0.0)


def score_scale(spread: DoubleArray, kind: IntervalKind) -> DoubleArray:
    """Return what a residual is divided by to be a score: 1, or the spread."""
    if kind != "normalised":
        return np.ones_like(spread)
    return np.maximum(spread, MIN_SPREAD_YEARS)
