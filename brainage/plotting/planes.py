"""Planes of a brain as every picture shows them: one order, one orientation, letters at the sides.

Axial, coronal, sagittal, in that order. Axial and coronal planes follow a convention: radiological
(the patient's left on the right, as if looked at from the feet) or neurological. On sagittal planes
the nose points to the left.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from brainage.types import BoolArray, DoubleArray, FloatArray

Orientation = Literal["radiological", "neurological"]
RADIOLOGICAL: Orientation = "radiological"
ORIENTATIONS: tuple[Orientation, ...] = ("radiological", "neurological")
ORIENTATION_WORDS = {
    "radiological": "Radiological convention: the patient's left is on the right.",
    "neurological": "Neurological convention: the patient's left is on the left.",
}
PLANES = (2, 1, 0)
"""Axes that axial, coronal and sagittal planes cut."""

PLANE_NAMES = {2: "axial", 1: "coronal", 0: "sagittal"}
_OUTLINE, _LETTERS = "#56B4E9", "#E6E6E6"
# Values below this share of the limit are faint, so that the anatomy stays visible.
_STRONGEST_ALPHA = 0.85


@dataclass(frozen=True)
class Cut:
    """One plane of an image.

    Attributes
    ----------
    axis : int
        0 sagittal, 1 coronal, 2 axial.
    index : int
        Voxel along it.
    window : tuple of slice (3,)
        Part of the image that is drawn.
    """

    axis: int
    index: int
    window: tuple[slice, ...] = (slice(None),) * 3


def take_plane(
    data: NDArray[Any], cut: Cut, orientation: Orientation = RADIOLOGICAL
) -> NDArray[Any]:
    """Take a plane (rows, columns) out of an image (I, J, K), RAS+; its first row is the top."""
    window = list(cut.window)
    window[cut.axis] = slice(cut.index, cut.index + 1)
    plane = data[tuple(window)].squeeze(cut.axis).T[::-1]
    if cut.axis == 0 or orientation == RADIOLOGICAL:
        plane = plane[:, ::-1]
    return plane


def side_letters(axis: int, orientation: Orientation = RADIOLOGICAL) -> tuple[str, str]:
    """Return the letters at the left and the right of a plane."""
    if axis == 0:
        return "A", "P"
    return ("R", "L") if orientation == RADIOLOGICAL else ("L", "R")


def frame_brain(mask: BoolArray, margin: int) -> tuple[slice, ...]:
    """Return the part of an image that the brain fills, with a margin of voxels; all if none."""
    if not mask.any():
        return (slice(None),) * 3
    parts = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        parts.append(slice(max(int(found[0]) - margin, 0), int(found[-1]) + 1 + margin))
    return tuple(parts)


def cut_at(place_mm: float, axis: int, affine: DoubleArray, shape: tuple[int, ...]) -> int:
    """Return the voxel along an axis at a coordinate in mm, of an axis-aligned image."""
    index = (place_mm - affine[axis, 3]) / affine[axis, axis]
    return int(np.clip(round(index), 0, shape[axis] - 1))


def draw_plane(
    axes: Axes,
    data: FloatArray,
    cut: Cut,
    orientation: Orientation = RADIOLOGICAL,
    *,
    top: float = 1.0,
) -> None:
    """Draw a plane in grey, black at 0 and white at `top`, with letters at its sides."""
    axes.imshow(take_plane(data, cut, orientation), cmap="gray", vmin=0, vmax=top)
    axes.set_axis_off()
    for x, letter in zip((0.02, 0.98), side_letters(cut.axis, orientation), strict=True):
        axes.text(
            x, 0.5, letter, color=_LETTERS, fontsize=7, ha="left" if x < 0.5 else "right",
            va="center", transform=axes.transAxes,
        )  # fmt: skip


def draw_outline(
    axes: Axes, mask: BoolArray, cut: Cut, orientation: Orientation = RADIOLOGICAL
) -> None:
    """Draw the outline of a mask on a plane that was drawn."""
    plane = take_plane(mask, cut, orientation)
    if plane.any() and not plane.all():
        axes.contour(plane.astype(np.float32), [0.5], colors=[_OUTLINE], linewidths=0.7)


def draw_overlay(
    axes: Axes,
    values: FloatArray,
    cut: Cut,
    limit: float,
    orientation: Orientation = RADIOLOGICAL,
) -> Any:
    """Draw a signed map over a plane that was drawn: red above 0, blue below, faint near 0.

    Returns
    -------
    matplotlib.image.AxesImage
        For a scale.
    """
    plane = take_plane(values, cut, orientation)
    alpha = np.clip(np.abs(plane) / limit, 0, 1) * _STRONGEST_ALPHA
    return axes.imshow(
        plane, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=alpha, interpolation="bilinear"
    )


def map_limit(values: FloatArray) -> float:
    """Return the value at which colours are strongest: the 99.5th percentile of the size."""
    return max(float(np.percentile(np.abs(values), 99.5)), 1e-9)
