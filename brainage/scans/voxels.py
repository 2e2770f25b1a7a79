"""Turn stored numbers into intensities, and voxels that hold no measurement into background."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainage.types import BoolArray, FloatArray

# Share of the voxels on an image's faces that are NaN when NaN means "outside the brain".
MIN_NAN_FACES = 0.9
# What programs write where a resliced or rotated image has no voxel: the least 16-bit integer.
PADDING = -32768
# Rounding to float32 may take at most this share of the range of intensities.
MAX_ROUNDING = 1e-4
# Noise of a background: its deviation as a share of the image's range, and its squared steps as a
# multiple of its variance, in most of the eight corners.
MIN_NOISE, MIN_ROUGHNESS, MIN_NOISY_CORNERS = 0.12, 0.5, 5
_FLOAT32_STEP = 2.0**-24
# Voxels that are scaled in float64 at a time, so that no second copy of a large scan is made.
_CHUNK = 2**22


def scale_voxels(stored: NDArray[Any], slope: float, inter: float) -> tuple[FloatArray, str]:
    """Compute intensities from stored numbers, without losing them behind a large offset.

    Padding of −32768 becomes NaN where all other values lie far above it.

    Parameters
    ----------
    stored : numpy.ndarray (N,)
        Numbers as stored.
    slope, inter : float
        Intensity = stored value * slope + inter.

    Returns
    -------
    values : numpy.ndarray of float32 (N,)
        Overflow becomes infinite.
    note : str
        Which offset was taken away; empty where none was.
    """
    padded = _find_padding(stored)
    low, high = _finite_range(stored if padded is None else stored[~padded])
    ends = sorted((low * slope + inter, high * slope + inter))
    largest, extent = max(map(abs, (*ends, low, high, inter))), ends[1] - ends[0]
    # A number that large cannot be held to the precision that its neighbours need.
    is_far = extent > 0 and largest * _FLOAT32_STEP > MAX_ROUNDING * extent
    if is_far and np.isfinite(ends).all():
        drop = ends[0] if max(map(abs, ends)) * _FLOAT32_STEP > MAX_ROUNDING * extent else 0.0
        values = _scale_exactly(stored, slope, inter, drop)
    else:
        drop = 0.0
        with np.errstate(all="ignore"):
            values = stored.astype(np.float32)
            if (slope, inter) != (1.0, 0.0):
                values *= np.float32(slope)
                values += np.float32(inter)
    if padded is not None:
        values[padded] = np.nan
    return values, f"an offset of {drop:g} was taken from all intensities" if drop else ""


def _scale_exactly(stored: NDArray[Any], slope: float, inter: float, drop: float) -> FloatArray:
    values = np.empty(stored.size, np.float32)
    # Integers above 2**53 have no float64 of their own: the least one is taken off before.
    base = stored.min() if stored.dtype.kind in "iu" else stored.dtype.type(0)
    shift = int(base) * slope + inter - drop if stored.dtype.kind in "iu" else inter - drop
    with np.errstate(all="ignore"):
        for start in range(0, stored.size, _CHUNK):
            part = stored[start : start + _CHUNK]
            above = part.astype(np.longdouble) - np.longdouble(base)
            values[start : start + _CHUNK] = above * slope + shift
    return values


def _finite_range(stored: NDArray[Any]) -> tuple[float, float]:
    if stored.dtype.kind == "f":
        stored = stored[np.isfinite(stored)]
    return (float(stored.min()), float(stored.max())) if stored.size else (0.0, 0.0)


def _find_padding(stored: NDArray[Any]) -> BoolArray | None:
    """Voxels of −32768, if there are any and no other value is below half of that."""
    if stored.dtype.kind == "u" or stored.dtype.itemsize == 1:
        return None
    padded: BoolArray = stored == PADDING
    if not padded.any() or padded.all():
        return None
    return padded if _finite_range(stored[~padded])[0] > PADDING / 2 else None


def describe_background(data: FloatArray) -> str:
    """Say that the corners of an image are noise as strong as the head; empty where they are not.

    So it is in the UNI image of an MP2RAGE, a ratio of two images (Marques et al. 2010,
    doi:10.1016/j.neuroimage.2009.10.002): outside the head it is one of noise by noise. Neighbours
    in tissue are alike, in noise they are not.

    Parameters
    ----------
    data : numpy.ndarray of float32 (I, J, K)
    """
    low, high = np.percentile(data[::3, ::3, ::3], [1, 99])
    sides = [max(2, side // 8) for side in data.shape]
    ends = [(slice(None, side), slice(-side, None)) for side in sides]
    noisy = 0
    for place in itertools.product(*ends):
        corner = data[place].astype(np.float64)
        spread = corner.std()
        if spread > MIN_NOISE * (high - low) > 0:
            steps = np.diff(corner, axis=0)
            # Of independent neighbours the mean squared step is twice the variance.
            noisy += bool((steps**2).mean() > MIN_ROUGHNESS * spread**2)
    if noisy < MIN_NOISY_CORNERS:
        return ""
    return (
        "the background is noise as strong as the head, as in the UNI image of an MP2RAGE: "
        "a denoised one (UNI-DEN) or a brain mask is safer"
    )


def fill_surroundings(data: FloatArray) -> tuple[FloatArray, str]:
    """Set NaN to 0 where it stands for "outside the image", as some programs write it.

    That is so for all NaN if nearly all voxels on the six faces are NaN; else for those that hang
    together with a face, such as the wedges that a rotation leaves. Elsewhere NaN is damage.

    Returns
    -------
    data : numpy.ndarray of float32 (I, J, K)
    note : str
        How much was taken as outside where it is less than all around; else empty.
    """
    missing = np.isnan(data)
    if not missing.any() or missing.all():
        return data, ""
    faces = [np.take(missing, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    if np.concatenate(faces).mean() >= MIN_NAN_FACES:
        return np.where(missing, np.float32(0), data), ""
    outside = _touching_faces(missing)
    if not outside.any():
        return data, ""
    share = 100 * float(outside.mean())
    note = f"{share:.2g} % of the voxels, at the edge, hold no number: taken as outside"
    return np.where(outside, np.float32(0), data), note


def _touching_faces(missing: BoolArray) -> BoolArray:
    labels, _ = ndimage.label(missing)
    faces = [np.take(labels, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    touching = np.unique(np.concatenate(faces))
    outside: BoolArray = np.isin(labels, touching[touching > 0])
    return outside
