"""A mixture of three Gaussians for grey matter, white matter and fluid: arrays only."""

import numpy as np

from brainage.types import DoubleArray

_ROUNDS = 15
_MIN_DEVIATION = 0.05
# A floor, so that tissue may lie where the template has none.
_FLOOR = 0.02


def share_tissue(values: DoubleArray, weights: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Fit the mixture by expectation-maximisation; the mixing weights stay the template's maps.

    Van Leemput et al. 1999 (doi:10.1109/42.811270), without the bias field.

    Parameters
    ----------
    values : numpy.ndarray of float64 (V,)
        Intensities of the brain's voxels, standard deviation about 1.
    weights : numpy.ndarray of float64 (3, V)
        Share of grey matter, white matter and fluid that the template has there.

    Returns
    -------
    means : numpy.ndarray of float64 (3,)
        Mean intensity of each tissue.
    shares : numpy.ndarray of float64 (3, V)
        Posterior share of each tissue in each voxel.
    """
    weights = (weights + _FLOOR) / (weights + _FLOOR).sum(axis=0)
    shares, means = weights, np.zeros(len(weights))
    for _ in range(_ROUNDS):
        total = shares.sum(axis=1)
        means = shares @ values / total
        variances = (shares * (values - means[:, None]) ** 2).sum(axis=1) / total
        deviations = np.sqrt(variances).clip(_MIN_DEVIATION)[:, None]
        density = np.exp(-0.5 * ((values - means[:, None]) / deviations) ** 2) / deviations
        joint = weights * density + 1e-12
        shares = joint / joint.sum(axis=0)
    return means, shares
