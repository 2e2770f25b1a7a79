"""Bring what surrounds a head to zero, whatever constant its giver left there."""

from collections.abc import Callable

import numpy as np

from brainage.types import BoolArray, FloatArray, Volume

# Share of a volume's outermost voxels that must be equal for them to be a background.
_MIN_SHARE = 0.5
# Share of negative voxels below which they are ringing of an interpolation at the edge.
_MAX_RINGING = 0.1
# Percentile of what is inside that becomes 0 where brightness has no zero of its own.
_DARKEST_PERCENT = 0.1


def reach_from_faces(background: BoolArray) -> BoolArray:
    """Keep the part of a background that reaches the volume's faces."""
    from scipy import ndimage

    labels, _ = ndimage.label(np.pad(background, 1, constant_values=True))
    reached: BoolArray = (labels == labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return reached


def clear_background(
    volume: Volume, reach: Callable[[BoolArray], BoolArray] = reach_from_faces
) -> Volume:
    """Set a constant around a head or brain to 0, and the darkest inside to 0 or more.

    A brain whose surroundings were set to −1000 or 255, or whose inside was given mean 0, is then
    what it was before. A scan with air around it, or with zeros around brightness of 0 or more,
    stays as it is.

    Parameters
    ----------
    volume : Volume
        Scan (I, J, K), all voxels finite.
    reach : callable
        `reach_from_faces`, or what does the same.
    """
    data = volume.data
    faces = (data[[0, -1]], data[:, [0, -1]], data[:, :, [0, -1]])
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    background = values[counts.argmax()]
    if counts.max() < _MIN_SHARE * counts.sum():
        return volume
    if background == 0 and data.min() >= 0:
        return volume
    outside = reach(data == background)
    inside = data[~outside]
    if inside.size == 0:
        return volume
    has_zero = (inside < 0).mean() < _MAX_RINGING
    floor = np.float32(0 if has_zero else np.percentile(inside, _DARKEST_PERCENT))
    return Volume(np.where(outside, np.float32(0), (data - floor).clip(0)), volume.affine)


def find_empty(data: FloatArray) -> BoolArray:
    """Find what has the value of most of a face, and hangs together with the faces (I, J, K)."""
    constants = []
    for axis in range(3):
        for end in (0, -1):
            values, counts = np.unique(data.take(end, axis), return_counts=True)
            if counts.max() >= _MIN_SHARE * counts.sum():
                constants.append(values[counts.argmax()])
    return reach_from_faces(np.isin(data, constants))
