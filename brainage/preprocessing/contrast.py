"""Bring a placed brain to intensities that mean the same on every scanner: numpy alone.

What depends on the template is handed over (`Priors`), so that a computer without torch, scipy and
nilearn does the same (`brainage.inference.portable`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brainage.errors import PreparationError
from brainage.mixture import share_tissue
from brainage.types import BoolArray, DoubleArray, FloatArray

# Standard deviations; cuts bright vessels and remnants of skull.
CLIP = 5.0
# Values of fluid, grey matter and white matter; one step more or less at either end.
FLUID, GREY, WHITE = 1.0, 2.0, 3.0
# Width of the neighbourhood that local contrast is measured in.
LOCAL_MM = 12.0
# Of a variance: in deviations of the brain, and where fluid is 0 and white matter 1.
_LOCAL_FLOOR, _INNER_FLOOR = 0.05, 0.005
# White matter is 1; brighter are vessels and what is left of the skull.
_BRIGHTEST = 1.5
# Between fluid and white matter, in deviations of the brain.
_LEAST_CONTRAST = 0.3


@dataclass(frozen=True)
class Priors:
    """What the template says of each voxel of the network's grid.

    Attributes
    ----------
    maps : numpy.ndarray of float64 (3, I, J, K)
        Share of grey matter, white matter and fluid; all 0 outside the template's brain.
    inner : numpy.ndarray of float32 (I, J, K), optional
        Weight of each voxel where the inner brain alone counts.
    smooth : callable
        Gaussian filter of a volume (I, J, K) over `LOCAL_MM`, reflected at the border.
    """

    maps: DoubleArray
    inner: FloatArray | None
    smooth: Callable[[FloatArray | DoubleArray], FloatArray]

    def weigh(self, mask: BoolArray) -> FloatArray:
        """Weight of each voxel: whether it is brain of scan and template, or inner brain."""
        inside = self.maps.sum(axis=0) > 0
        if self.inner is None:
            return (mask & inside).astype(np.float32)
        return self.inner * inside

    def neighbourhood(self, weight: FloatArray) -> Callable[[FloatArray | DoubleArray], FloatArray]:
        """Build the weighted mean of each voxel's neighbourhood, as a function of the values."""
        total = self.smooth(weight) + 1e-3

        def mean_around(values: FloatArray | DoubleArray) -> FloatArray:
            result: FloatArray = self.smooth(values * weight) / total
            return result

        return mean_around


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


def tissue_levels(data: FloatArray, mask: BoolArray, priors: Priors, where: str) -> FloatArray:
    """Map the means of fluid, grey and white matter to 1, 2 and 3, linearly in between.

    The means are those of a mixture fitted to the scan (`brainage.mixture`). Values end at 0 and 4,
    and are 0 outside the brain that scan and template share: brain masks of different tools
    differ most in the fluid around it. With `inner_depth_mm` the template's inner brain alone
    counts (`brainage.preprocessing.inner`).

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
        Intensities on the network's grid.
    mask : numpy.ndarray of bool (I, J, K)
        Brain.

    Raises
    ------
    PreparationError
        If the three tissues cannot be told apart.
    """
    maps, weight = priors.maps, priors.weigh(mask)
    brain = mask & (weight > 0)
    values = _standardise(data, brain, where)
    (grey, white, fluid), _ = share_tissue(values, maps[:, brain])
    if not fluid < grey < white:
        problem = "fluid, grey and white matter are not of rising brightness, as in a T1 scan."
        raise PreparationError(where, problem, "Check contrast and brain mask.")
    knots = [2 * fluid - grey, fluid, grey, white, 2 * white - grey]
    result = np.full(data.shape, FLUID, np.float32)
    result[brain] = np.interp(values, knots, [0, FLUID, GREY, WHITE, WHITE + 1])
    return result * weight


def local_contrast(data: FloatArray, mask: BoolArray, priors: Priors, where: str) -> FloatArray:
    """Subtract the mean of a Gaussian neighbourhood of 12 mm, divide by its deviation.

    Slow changes of brightness leave no trace, neither a bias field nor a tissue's level. With
    `inner_depth_mm` neighbourhoods lie in the template's inner brain alone
    (`brainage.preprocessing.inner`), and values have a mean size of 1 there.

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
        Intensities on the network's grid.
    mask : numpy.ndarray of bool (I, J, K)
        Brain; what lies outside the template's is left out.

    Raises
    ------
    PreparationError
        If the brain is empty or constant.
    """
    maps, weight = priors.maps, priors.weigh(mask)
    brain = mask & (weight > 0)
    scaled = np.zeros(data.shape, np.float32)
    values = _standardise(data, brain, where)
    if priors.inner is None:
        scaled[brain] = values
        return _contrast(scaled, weight, _LOCAL_FLOOR, priors)
    (_, white, fluid), _ = share_tissue(values, maps[:, brain])
    # Fluid is 0, also where the scan's mask ends too early, and white matter 1. Nothing is darker
    # than fluid but what smoothing over the edge of a stripped brain has darkened.
    scaled[brain] = ((values - fluid) / max(white - fluid, _LEAST_CONTRAST)).clip(0, _BRIGHTEST)
    local = _contrast(scaled, weight, _INNER_FLOOR, priors)
    return local * (weight.sum() / np.abs(local).sum())


def _contrast(values: FloatArray, weight: FloatArray, floor: float, priors: Priors) -> FloatArray:
    """Contrast to the weighted mean of the neighbourhood, in its deviations."""
    mean_around = priors.neighbourhood(weight)
    mean = mean_around(values)
    variance = mean_around((values - mean) ** 2)
    result: FloatArray = (values - mean) / np.sqrt(variance + floor) * weight
    return result


def _standardise(data: FloatArray, brain: BoolArray, where: str) -> DoubleArray:
    values = data[brain].astype(np.float64)
    if values.size < 2 or not np.isfinite(values).all() or values.min() == values.max():
        problem = "there is no brain with contrast on the network's grid."
        raise PreparationError(where, problem, "Check the scan and preprocessing.shape.")
    standard: DoubleArray = (values - values.mean()) / values.std()
    return standard
