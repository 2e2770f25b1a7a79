"""Intensity normalisation across scanners: tissue contrast, and local contrast.

A network that is trained on one scanner's brightness fails on another's. Both functions take only
the scan itself and the template's tissue maps, so that no site has to be known beforehand.
"""

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.mixture import share_tissue
from brainage.preprocessing.priors import load_tissue_maps
from brainage.types import BoolArray, DoubleArray, FloatArray

# Standard deviations; cuts bright vessels and remnants of skull.
CLIP = 5.0
# Values of fluid, grey matter and white matter; one step more or less at either end.
FLUID, GREY, WHITE = 1.0, 2.0, 3.0
# Width of the neighbourhood that local contrast is measured in.
LOCAL_MM = 12.0
_LOCAL_FLOOR = 0.05


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


def normalise_tissue(
    data: FloatArray, mask: BoolArray, settings: PreprocessingConfig, where: str
) -> FloatArray:
    """Map the means of fluid, grey and white matter to 1, 2 and 3, linearly in between.

    The means are those of a mixture fitted to the scan (`brainage.mixture`). Values end at 0 and 4,
    and are 0 outside the brain that scan and template share: brain masks of different tools
    differ most in the fluid around it.

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
        Intensities on the settings' grid.
    mask : numpy.ndarray of bool (I, J, K)
        Brain.

    Raises
    ------
    PreparationError
        If the three tissues cannot be told apart.
    """
    maps = np.stack(load_tissue_maps(settings)).astype(np.float64)
    brain = mask & (maps.sum(axis=0) > 0)
    values = _standardise(data, brain, where)
    (grey, white, fluid), _ = share_tissue(values, maps[:, brain])
    if not fluid < grey < white:
        problem = "fluid, grey and white matter are not of rising brightness, as in a T1 scan."
        raise PreparationError(where, problem, "Check contrast and brain mask.")
    knots = [2 * fluid - grey, fluid, grey, white, 2 * white - grey]
    result = np.zeros(data.shape, np.float32)
    result[brain] = np.interp(values, knots, [0, FLUID, GREY, WHITE, WHITE + 1])
    return result


def normalise_local(
    data: FloatArray, mask: BoolArray, settings: PreprocessingConfig, where: str
) -> FloatArray:
    """Subtract the mean of a Gaussian neighbourhood of 12 mm, divide by its deviation.

    Slow changes of brightness leave no trace, neither a bias field nor a tissue's level.

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
        Intensities on the settings' grid.
    mask : numpy.ndarray of bool (I, J, K)
        Brain; what lies outside the template's is left out.

    Raises
    ------
    PreparationError
        If the brain is empty or constant.
    """
    brain = mask & (np.sum(load_tissue_maps(settings), axis=0) > 0)
    inside = brain.astype(np.float32)
    scaled = np.zeros(data.shape, np.float32)
    scaled[brain] = _standardise(data, brain, where)
    sigma = LOCAL_MM / settings.spacing_mm
    weight = ndimage.gaussian_filter(inside, sigma) + 1e-3
    mean = ndimage.gaussian_filter(scaled, sigma) / weight
    variance = ndimage.gaussian_filter((scaled - mean) ** 2 * inside, sigma) / weight
    result: FloatArray = (scaled - mean) / np.sqrt(variance + _LOCAL_FLOOR) * inside
    return result


def _standardise(data: FloatArray, brain: BoolArray, where: str) -> DoubleArray:
    values = data[brain].astype(np.float64)
    if values.size < 2 or not np.isfinite(values).all() or values.min() == values.max():
        problem = "there is no brain with contrast on the network's grid."
        raise PreparationError(where, problem, "Check the scan and preprocessing.shape.")
    standard: DoubleArray = (values - values.mean()) / values.std()
    return standard
