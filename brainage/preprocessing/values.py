"""Tell by the raw values alone what is no image at all: masks, labels, probabilities, CT.

Looked at before anything is placed, on a few slices, in a fraction of a second. What is an image
of another contrast is for the quality gate (`brainage.preprocessing.quality`) to tell.
"""

import numpy as np

from brainage.errors import PreparationError
from brainage.types import BoolArray, FloatArray, Volume

# Share of neighbouring voxels of equal value, along the axis where it is smaller. Labels fill
# regions; in an image noise tells neighbours apart, unless it was stored in very few steps.
MIN_EQUAL_SHARE = 0.5
# Share of the voxels within a hundredth of the highest value: a mask has hardly another, and
# probabilities end at 1.
MIN_MASK_SHARE, MIN_PLATEAU_SHARE = 0.6, 0.12
_PLATEAU = 0.01
# Of the distance to the background: what is inside differs by at least so much, or not at all.
_LEAST_SPREAD = 1e-3
# Share of the range of values that interpolation between equal ones may add.
_ROUNDING = 1e-5
# Share of the brightest distance to the background below which a voxel belongs to it: splines and
# Fourier transforms leave ringing there that dies away, in floating point to numbers of any size.
_RINGING = 1e-3
# Hounsfield units: air, soft tissue and skull of a head (water is 0, air −1000).
_AIR_HU, _HEAD_HU, _SKULL_HU = -900.0, -300.0, 300.0
_SOFT_TISSUE_HU = (-50.0, 120.0)
_MIN_AIR_SHARE, _MIN_SKULL_SHARE = 0.05, 0.03
# Slices that are looked at, and voxels whose distinct values are counted.
_SLICES, _COUNTED = 48, 2**18

_REMEDY = "Give the T1-weighted scan itself."


def check_values(volume: Volume, where: str) -> None:
    """Refuse what is no MR image by its values.

    Raises
    ------
    PreparationError
        Saying what it is: a mask, labels, a probability map, or CT.
    """
    found = describe_values(volume)
    if found:
        raise PreparationError(where, f"{found}.", _REMEDY)


def describe_values(volume: Volume) -> str:
    """Say what a volume is if it is no MR image, such as "labels, not an image"; else empty."""
    step = max(1, volume.data.shape[2] // _SLICES)
    slices = volume.data[:, :, ::step]
    background = _most_common(np.concatenate([slices[[0, -1]].ravel(), slices[:, [0, -1]].ravel()]))
    away = np.abs(slices - background)
    inside = away > _RINGING * np.percentile(away, 99)
    if not inside.any():
        return ""
    values = slices[inside]
    distinct = len(np.unique(values[:: max(1, values.size // _COUNTED)])) + 1
    if distinct == 2:
        return "a mask, not an image (2 distinct values)"
    top, bottom = float(values.max()), float(values.min())
    # A background far from all other values tells nothing of their range.
    spread = max(top - bottom, _LEAST_SPREAD * abs(top - background))
    plateau = float(np.mean(values >= top - _PLATEAU * spread))
    fills_regions = _equal_share(slices, inside) >= MIN_EQUAL_SHARE
    if plateau >= MIN_MASK_SHARE or (plateau >= MIN_PLATEAU_SHARE and not fills_regions):
        problem = "a mask or probability map, not an image"
        return f"{problem} ({plateau:.0%} of it has the highest value)"
    if fills_regions:
        return f"labels, not an image ({distinct} distinct values fill whole regions)"
    return "a CT scan, not MRI (its values are Hounsfield units)" if _is_ct(slices) else ""


def _most_common(values: FloatArray) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


def _equal_share(slices: FloatArray, inside: BoolArray) -> float:
    """Share of neighbours inside that are equal, along the in-plane axis where it is smaller."""
    low, high = np.percentile(slices[inside][:: max(1, inside.sum() // _COUNTED)], (1, 99))
    shares = []
    for axis in (0, 1):
        data, kept = np.moveaxis(slices, axis, 0), np.moveaxis(inside, axis, 0)
        steps = np.abs(data[1:] - data[:-1])[kept[1:] & kept[:-1]]
        shares.append(float(np.mean(steps <= _ROUNDING * (high - low))) if steps.size else 0.0)
    return min(shares)


def _is_ct(slices: FloatArray) -> bool:
    head = slices[slices > _HEAD_HU]
    if head.size == 0 or np.mean(slices <= _AIR_HU) < _MIN_AIR_SHARE:
        return False
    low, high = _SOFT_TISSUE_HU
    return bool(low <= np.median(head) <= high and np.mean(head > _SKULL_HU) >= _MIN_SKULL_SHARE)
