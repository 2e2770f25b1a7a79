"""ComBat without covariates: bring a site's features to those of a reference cohort.

Johnson, Li & Rabinovic 2007 (doi:10.1093/biostatistics/kxj037), with a reference batch as in Stein
et al. 2015 (M-ComBat, doi:10.1186/s12859-015-0478-3). No age enters, of nobody: a site whose people
are older or younger than the reference loses a part of that difference too. Use it where a site's
ages are like the reference's, and look at the errors with and without.
"""

from dataclasses import dataclass

import numpy as np

from brainage.errors import CohortError, ShapeError
from brainage.types import DoubleArray

MIN_SCANS = 10
_TOLERANCE, _MAX_ROUNDS = 1e-4, 100
_TINY = 1e-12


@dataclass(frozen=True)
class Combat:
    """What a reference cohort's features are like.

    Attributes
    ----------
    mean, deviation : numpy.ndarray of float64 (F,)
    """

    mean: DoubleArray
    deviation: DoubleArray

    def harmonise(self, features: DoubleArray) -> DoubleArray:
        """Features (N, F) of one site's scans, as the reference scanner would give them.

        Each feature's shift and scale are shrunken towards those of all features (empirical
        Bayes), so that few scans suffice.

        Raises
        ------
        ShapeError
            If the features are not the reference's.
        CohortError
            If there are fewer than 10 scans.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            problem = f"expected features (N, {len(self.mean)}), got {features.shape}."
            raise ShapeError("ComBat", problem)
        if len(features) < MIN_SCANS:
            problem = f"{len(features)} scans of the site, at least {MIN_SCANS} are needed."
            raise CohortError("ComBat", problem)
        standard = (features - self.mean) / self.deviation
        shift, variance = _shrink(standard)
        result: DoubleArray = (standard - shift) / np.sqrt(variance) * self.deviation + self.mean
        return result


def fit_combat(features: DoubleArray) -> Combat:
    """Mean and deviation of the reference's features (N, F).

    Raises
    ------
    CohortError
        If there are fewer than 10 scans.
    """
    if len(features) < MIN_SCANS:
        problem = f"{len(features)} reference scans, at least {MIN_SCANS} are needed."
        raise CohortError("ComBat", problem)
    deviation = features.std(axis=0, ddof=1)
    return Combat(features.mean(axis=0), np.where(deviation > _TINY, deviation, 1.0))


def _shrink(standard: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Posterior shift and variance (F,) of each feature (Johnson et al. 2007, appendix)."""
    n = len(standard)
    shift, variance = standard.mean(axis=0), standard.var(axis=0, ddof=1) + _TINY
    prior_mean, prior_variance = shift.mean(), shift.var(ddof=1) + _TINY
    centre, spread = variance.mean(), variance.var(ddof=1) + _TINY
    shape = (2 * spread + centre**2) / spread
    scale = (centre * spread + centre**3) / spread
    new_shift, new_variance = shift, variance
    for _ in range(_MAX_ROUNDS):
        before = new_shift, new_variance
        new_shift = (n * prior_variance * shift + new_variance * prior_mean) / (
            n * prior_variance + new_variance
        )
        squares = ((standard - new_shift) ** 2).sum(axis=0)
        new_variance = (scale + 0.5 * squares) / (n / 2 + shape - 1)
        changes = (np.abs(new_shift - before[0]).max(), np.abs(new_variance - before[1]).max())
        if max(changes) < _TOLERANCE:
            break
    return new_shift, new_variance
