"""Lay a scan straight, whatever its header says of how it lay.

The header's rotation and offset are forgotten: what counts is the voxels and their size. A coarse
search over the 24 turns of the axes tells how the brain lies; the array is put into the template's
order of axes without interpolation, and a coarse registration of that array alone gives the
rotation that lays it as the template lies. All headers of the same voxels lead to the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, permutations, product

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from scipy.linalg import cholesky
from scipy.spatial.transform import Rotation

from brainage.errors import PreparationError
from brainage.preprocessing.head import (
    MAX_LITRES,
    MIN_LITRES,
    find_brains,
    scale_brightness,
    to_working_grid,
)
from brainage.preprocessing.mni import find_foreground, resample_volume
from brainage.preprocessing.registration import Alignment, register_coarsely, search_turns
from brainage.types import BoolArray, DoubleArray, Volume

# Grid on which the brain is looked for, and erosions that cut it from the head there,
# likeliest first: the pose needs no fine mask.
_POSE_MM = 4.0
_EROSIONS_MM = (8.5, 7.0, 10.0, 12.0, 5.0)
# An extracted brain's brightest that counts for its pose, over its median: white matter has 1.4.
_BRIGHTEST = 1.5
# Voxel sizes are rounded to such parts of a mm: that hides a header's float32 and keeps usual ones.
_PARTS_OF_MM = 2**16


def order_axes(volume: Volume, to_mni: DoubleArray) -> Volume:
    """Flip and permute the axes towards MNI's Right, Anterior, Superior; no voxel is interpolated.

    Parameters
    ----------
    to_mni : numpy.ndarray of float64 (4, 4)
        The scan's world coordinates to MNI coordinates, both in mm.
    """
    orientation = io_orientation(to_mni @ volume.affine)
    if np.array_equal(orientation, [[0, 1], [1, 1], [2, 1]]):
        return volume
    data = np.ascontiguousarray(apply_orientation(volume.data, orientation))
    return Volume(data, volume.affine @ inv_ornt_aff(orientation, volume.data.shape))


@dataclass(frozen=True)
class StraightScan:
    """A scan that lies as the template does, but for size and some degrees.

    Attributes
    ----------
    volume : Volume
        The scan's voxels (I, J, K), axes in the template's order; its world is the scan's, turned
        and moved onto the template.
    mask : Volume, optional
        Brain, where it was given.
    start : Alignment
        Of a coarse registration, in this world: no rotation, no translation.
    to_scan : numpy.ndarray of float64 (4, 4)
        This world's coordinates to the scan's world coordinates, both in mm.
    """

    volume: Volume
    mask: Volume | None
    start: Alignment
    to_scan: DoubleArray


def lay_straight(volume: Volume, mask: BoolArray | None, where: str) -> StraightScan:
    """Find how a scan's brain lies from its voxels alone, and lay it as the template lies.

    Parameters
    ----------
    volume : Volume
        Whole head or extracted brain (I, J, K).
    mask : numpy.ndarray of bool (I, J, K), optional
        Brain; without one it is looked for.
    where : str
        Scan named in errors.

    Raises
    ------
    PreparationError
        If the voxels have no contrast, or nothing in them has a brain's size.
    """
    frame = _frame(volume.affine)
    found = search_turns(*_look(Volume(volume.data, frame), mask, where), _turns_of_axes())
    to_mni = found.to_mni @ frame @ np.linalg.inv(volume.affine)
    ordered = order_axes(volume, to_mni)
    if mask is not None:
        share = Volume(mask.astype(np.float32), volume.affine)
        mask = order_axes(share, to_mni).data > 0
    # From here on nothing depends on the header.
    frame = _frame(ordered.affine)
    found = register_coarsely(*_look(Volume(ordered.data, frame), mask, where))
    parameters = found.parameters.copy()
    parameters[:6] = 0
    start = replace(found, parameters=parameters)
    # A scan's affine is rotation and translation after scales and shears: undo the former.
    straight = Volume(ordered.data, start.to_scan @ found.to_mni @ frame)
    brain = None if mask is None else Volume(mask.astype(np.float32), straight.affine)
    to_scan = ordered.affine @ np.linalg.inv(straight.affine)
    return StraightScan(straight, brain, start, to_scan)


def _frame(affine: DoubleArray) -> DoubleArray:
    """Return an affine with the same voxel (lengths and angles) that knows no rotation or place."""
    linear = affine[:3, :3]
    frame = np.eye(4)
    frame[:3, :3] = np.round(cholesky(linear.T @ linear) * _PARTS_OF_MM) / _PARTS_OF_MM
    frame[0, 0] *= np.sign(np.linalg.det(linear))
    return frame


def _look(volume: Volume, mask: BoolArray | None, where: str) -> tuple[Volume, Iterable[BoolArray]]:
    """Bring a scan to a coarse grid, with candidates for its brain, likeliest first."""
    if mask is not None:
        head = to_working_grid(find_foreground(volume, where).volume, _POSE_MM)
        share = Volume(mask.astype(np.float32), volume.affine)
        given = resample_volume(share, head.affine, head.data.shape) >= 0.5
        # Fat that a strip has left is brighter than white matter and must not decide the turn.
        bright = _BRIGHTEST * np.median(head.data[given]) if given.any() else np.inf
        return Volume(np.minimum(head.data, np.float32(bright)), head.affine), [given]
    head = to_working_grid(scale_brightness(volume, where), _POSE_MM)
    found = find_brains(head, _EROSIONS_MM)
    first = next(found, None)
    if first is None:
        problem = f"nothing of {MIN_LITRES} to {MAX_LITRES} L in it looks like a brain."
        raise PreparationError(where, problem, "Give a T1-weighted head, or a brain mask.")
    return head, chain([first], found)


def _turns_of_axes() -> DoubleArray:
    """List the 24 rotations that bring the axes onto each other, as rotation vectors (24, 3)."""
    signed = [
        np.eye(3)[list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    proper = [matrix for matrix in signed if np.linalg.det(matrix) > 0]
    return Rotation.from_matrix(np.array(proper)).as_rotvec()
