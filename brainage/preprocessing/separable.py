"""Smooth and resample volumes along their axes, one matrix an axis: numpy alone.

Between grids whose axes lie along each other, Gaussian smoothing and linear interpolation are a
product of three matrices, one for each axis. The results are those of scipy's filters in
`brainage.preprocessing.mni` but for rounding.
"""

import numpy as np

from brainage.types import DoubleArray, FloatArray, Volume

# A Gaussian's full width at half maximum, in its standard deviations.
_WIDTH = 2 * np.sqrt(2 * np.log(2))


def smooth_volume(data: FloatArray | DoubleArray, sigma: float) -> FloatArray:
    """Filter a volume (I, J, K) by a Gaussian cut at 4 deviations, reflected at the border.

    Parameters
    ----------
    sigma : float
        Standard deviation in voxels.
    """
    matrices = [_gaussian(size, sigma, truncate=4.0, reflects=True) for size in data.shape]
    return _along_axes(data, matrices).astype(data.dtype)


def resample_straight(
    source: Volume, affine: DoubleArray, shape: tuple[int, ...], finest_mm: float
) -> FloatArray:
    """Average, smooth and interpolate as `coarsen_volume` and `resample_volume` do.

    Parameters
    ----------
    source : Volume
        Volume (I, J, K) whose axes lie along those of its world.
    affine : numpy.ndarray of float64 (4, 4)
        Index of the new grid to the source's world, diagonal but for the offset.
    shape : tuple of int (3,)
        Voxels of the new grid.
    finest_mm : float
        Voxels that are smaller are averaged first, as many as fit.
    """
    spacing_mm = float(np.diag(affine)[:3].mean())
    matrices = []
    for axis, size in enumerate(source.data.shape):
        step, start = float(source.affine[axis, axis]), float(source.affine[axis, 3])
        factor = min(size, max(1, int(finest_mm / step + 1e-3)))
        count = size // factor
        average = np.zeros((count, size))
        average[:, : count * factor] = np.kron(np.eye(count), np.full(factor, 1 / factor))
        start, step = start + step * (factor - 1) / 2, step * factor
        ratio = np.round(spacing_mm / step, 6)
        sigma = float(np.sqrt(max(ratio**2 - 1, 0)) / _WIDTH)
        places = np.round((affine[axis, 3] - start) / step, 4) + np.arange(shape[axis]) * np.round(
            affine[axis, axis] / step, 4
        )
        smooth = _gaussian(count, sigma, truncate=3.0, reflects=False)
        matrices.append(_interpolation(places, count) @ smooth @ average)
    return _along_axes(source.data, matrices).astype(np.float32)


def _gaussian(size: int, sigma: float, *, truncate: float, reflects: bool) -> DoubleArray:
    """Matrix (size, size) of a Gaussian filter; beyond the border the reflection, or 0."""
    reach = int(truncate * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / max(sigma, 1e-12)) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    for step, weight in zip(steps, weights, strict=True):
        places = np.arange(size) + step
        if reflects:  # d c b a | a b c d | d c b a
            places = places % (2 * size)
            places = np.where(places < size, places, 2 * size - 1 - places)
        inside = (places >= 0) & (places < size)
        np.add.at(matrix, (np.flatnonzero(inside), places[inside]), weight)
    return matrix


def _interpolation(places: DoubleArray, size: int) -> DoubleArray:
    """Matrix (targets, size) of linear interpolation at places; 0 outside the source."""
    inside = np.flatnonzero((places >= 0) & (places <= size - 1))
    low = np.floor(places[inside]).astype(int)
    share = places[inside] - low
    matrix = np.zeros((len(places), size))
    matrix[inside, low] += 1 - share
    matrix[inside, np.minimum(low + 1, size - 1)] += share
    return matrix


def _along_axes(data: FloatArray | DoubleArray, matrices: list[DoubleArray]) -> DoubleArray:
    result = np.asarray(data, np.float64)
    for axis, matrix in enumerate(matrices):
        result = np.moveaxis(np.tensordot(matrix, result, (1, axis)), 0, axis)
    return result
