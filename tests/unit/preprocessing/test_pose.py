"""Where a brain lies is told by its voxels, never by the header."""

from itertools import product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brainage.preprocessing.pipeline import Processed, process_volume
from brainage.preprocessing.pose import order_axes
from brainage.types import DoubleArray, Volume
from tests.heads import FAST, build_head


@pytest.fixture(scope="module")
def head() -> Volume:
    return build_head()


@pytest.fixture(scope="module")
def processed(head: Volume) -> Processed:
    return process_volume(head, FAST, "head")


def turned(degrees: tuple[float, float, float], shift_mm: float = 0.0) -> DoubleArray:
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


@pytest.mark.parametrize(
    "motion",
    [
        pytest.param(turned((15, 0, 0)), marks=pytest.mark.slow),
        turned((0, -30, 0), 20.0),
        turned((8, 12, 170)),
        pytest.param(turned((180, 0, 0)), marks=pytest.mark.slow),
        turned((0, 90, 0), -35.5),
    ],
)
def test_one_head_one_image_whatever_its_header_says(
    motion: DoubleArray, head: Volume, processed: Processed
) -> None:
    moved = process_volume(Volume(head.data, motion @ head.affine), FAST, "head")
    np.testing.assert_allclose(moved.image.data, processed.image.data, atol=1e-3)
    assert (moved.mask != processed.mask).mean() < 1e-4
    assert moved.verdict == processed.verdict


def test_ordering_axes_keeps_every_voxel_where_it_is(head: Volume) -> None:
    small = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), head.affine)
    for signs in product((1, -1), repeat=3):
        flipped = np.flip(small.data, [axis for axis in range(3) if signs[axis] < 0])
        affine = small.affine @ np.diag([*signs, 1.0])
        affine[:3, 3] += small.affine[:3, :3] @ [
            side - 1 if sign < 0 else 0 for sign, side in zip(signs, flipped.shape, strict=True)
        ]
        ordered = order_axes(Volume(flipped.copy(), affine), np.linalg.inv(small.affine))
        np.testing.assert_array_equal(ordered.data, small.data)
        np.testing.assert_allclose(ordered.affine, small.affine, atol=1e-9)
