"""Estimate how far a model is off at a site, from a few healthy controls."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from brainage.types import DoubleArray


def shrunken_offset(gap_years: ArrayLike) -> float:
    """Estimate a site's offset from the gaps of a few controls, shrunken towards no change.

    With mean gap m, its standard error s and t = m/s it is (1 - 1/t²)·m where the 95 % interval of
    m leaves 0 out, and 0 elsewhere: a mean of chance would only add noise. The factor is that of
    empirical Bayes (Efron & Morris 1973, doi:10.1080/01621459.1973.10481350), v / (v + s²) with
    m² - s² for the variance v of offsets between sites. Stein's own rule takes three means or more.

    Parameters
    ----------
    gap_years : array_like (N,)
        Predicted minus chronological ages.

    Returns
    -------
    float
        Years to be subtracted from predictions.

    Examples
    --------
    >>> shrunken_offset([4.0, 6.0, 5.0, 7.0, 3.0])
    4.9
    >>> shrunken_offset([-4.0, 6.0, -5.0, 7.0, 3.0])
    0.0
    """
    gap = np.asarray(gap_years, np.float64)
    if gap.size < 2:
        return 0.0
    mean, error = float(gap.mean()), float(gap.std(ddof=1) / math.sqrt(gap.size))
    if abs(mean) <= error * _t_quantile(gap.size - 1):
        return 0.0
    return mean - error**2 / mean


@lru_cache
def _t_quantile(freedom: int) -> float:
    return float(stdtrit(freedom, 0.975))


def leave_one_out_gaps(gap_years: ArrayLike) -> DoubleArray:
    """Gap of each control after subtraction of the offset that the others give, (N,)."""
    gap = np.asarray(gap_years, np.float64)
    return np.array([own - shrunken_offset(np.delete(gap, n)) for n, own in enumerate(gap)])
