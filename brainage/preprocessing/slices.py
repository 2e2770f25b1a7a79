"""Measure whether the slices of a scan follow one another evenly."""

import numpy as np
from scipy import ndimage

from brainage.types import BoolArray, DoubleArray, FloatArray

# Slices with a smaller share of the largest cross-section are left out: too little is seen there.
_MIN_SHARE = 0.3
# Slices that a pair is compared with, and which of them: a pair of the more different ones, for
# scans that were interpolated change by turns more and less.
_NEARBY, _HIGH_PERCENT = 9, 80
# Of the brain's range of brightness: a voxel counts up to half of it, and what is the same differs
# by a thousandth.
_CEILING, _FLOOR = 0.5, 1e-3
# Slices that are too few to compare.
_MIN_PAIRS = 5


def measure_slices(data: FloatArray, mask: BoolArray) -> dict[str, float]:
    """Measure how evenly slices change from one to the next, along each axis of the image.

    A pair of neighbours is compared with the nine around it by the mean absolute difference of
    brightness inside the brain, which hardly depends on noise, contrast or a bias field.

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
        Scan on the axes on which it was stored.
    mask : numpy.ndarray of bool (I, J, K)
        Brain.

    Returns
    -------
    dict of str to float
        `slice_jump`, the most that a pair differs by, as a multiple of what pairs around it do: a
        step of brightness, or slices that are lost. `slice_repeat`, the least: slices that were
        filled up by their neighbour have nearly 0. Nothing where there are too few slices.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = rng.normal(10, 1, (30, 30, 30)).astype(np.float32)
    >>> mask = np.ones(data.shape, bool)
    >>> {name: round(value, 1) for name, value in measure_slices(data, mask).items()}
    {'slice_jump': 1.0, 'slice_repeat': 0.9}
    >>> data[:, 15] = data[:, 14]
    >>> round(measure_slices(data, mask)["slice_repeat"], 1)
    0.0
    """
    box = ndimage.find_objects(mask.astype(np.int8))
    inside = ndimage.binary_erosion(mask[box[0]]) if box else mask
    if not inside.any():
        return {}
    values = data[box[0]]
    dark, bright = np.percentile(values[inside], (2, 98))
    if bright <= dark:
        return {}
    scaled = values / np.float32(bright - dark)
    changes = (_measure_changes(scaled, inside, axis) for axis in range(3))
    enough = [change for change in changes if len(change) >= _MIN_PAIRS]
    if not enough:
        return {}
    jumps = [
        change / ndimage.percentile_filter(change, _HIGH_PERCENT, _NEARBY, mode="nearest")
        for change in enough
    ]
    repeats = [change / ndimage.median_filter(change, _NEARBY, mode="nearest") for change in enough]
    return {
        "slice_jump": float(max(jump.max() for jump in jumps)),
        "slice_repeat": float(min(repeat.min() for repeat in repeats)),
    }


def _measure_changes(data: FloatArray, mask: BoolArray, axis: int) -> DoubleArray:
    """Compute the mean difference of each pair of neighbours (N,) with enough brain in both."""
    data, mask = np.moveaxis(data, axis, 0), np.moveaxis(mask, axis, 0)
    both = mask[1:] & mask[:-1]
    size = both.sum(axis=(1, 2))
    change = np.minimum(np.abs(np.diff(data, axis=0)), np.float32(_CEILING))
    total = np.where(both, change, np.float32(0)).sum(axis=(1, 2), dtype=np.float64)
    seen = size > _MIN_SHARE * size.max()
    means: DoubleArray = total[seen] / size[seen] + _FLOOR
    return means
