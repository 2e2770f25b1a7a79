"""The last step before the network: brightness and contrast of the brain."""

import numpy as np

from brainage.errors import PreparationError
from brainage.types import BoolArray, FloatArray

# Standard deviations; cuts bright vessels and remnants of skull.
CLIP = 5.0


def normalise_in_brain(data: FloatArray, mask: BoolArray, where: str) -> FloatArray:
    """Scale the brain to mean 0 and standard deviation 1, clip to ±`CLIP`, zero all around it.

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
    mask : numpy.ndarray of bool (I, J, K)
        Brain.
    where : str
        Scan named in errors.

    Returns
    -------
    numpy.ndarray of float32 (I, J, K)
        In standard deviations of the brain's intensities.

    Raises
    ------
    PreparationError
        If the mask is empty, or the brain constant or not finite.
    """
    inside = data[mask]
    if inside.size < 2 or not np.isfinite(inside).all() or inside.min() == inside.max():
        problem = "there is no brain with contrast on the network's grid."
        raise PreparationError(where, problem, "Check the scan and preprocessing.shape.")
    mean, deviation = inside.mean(dtype=np.float64), inside.std(dtype=np.float64, ddof=1)
    scaled = (data - np.float32(mean)) / np.float32(deviation)
    return np.where(mask, scaled.clip(-CLIP, CLIP), np.float32(0))
