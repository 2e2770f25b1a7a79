"""Which way brains hang in pictures: told by one voxel that is bright."""

import numpy as np
import pytest

from brainage.plotting.planes import (
    ORIENTATIONS,
    PLANES,
    Cut,
    Orientation,
    cut_at,
    frame_brain,
    map_limit,
    side_letters,
    take_plane,
)

# Left, front, top of an image in RAS+.
LEFT_FRONT_TOP = (1, 8, 7)


@pytest.fixture
def brain() -> np.ndarray:
    data = np.zeros((11, 10, 9), np.float32)
    data[LEFT_FRONT_TOP] = 1.0
    return data


def place(brain: np.ndarray, axis: int, orientation: Orientation) -> tuple[str, str]:
    """Side and height at which the bright voxel is seen, by the letters of the picture."""
    plane = take_plane(brain, Cut(axis, LEFT_FRONT_TOP[axis]), orientation)
    row, column = np.argwhere(plane == 1.0)[0]
    left, right = side_letters(axis, orientation)
    return (left if column < plane.shape[1] / 2 else right), "up" if row < 4 else "down"


@pytest.mark.parametrize("orientation", ["radiological", "neurological"])
def test_voxel_is_seen_beside_its_letter(brain: np.ndarray, orientation: Orientation) -> None:
    # In front is up on axial planes.
    assert [place(brain, axis, orientation) for axis in PLANES] == [
        ("L", "up"),
        ("L", "up"),
        ("A", "up"),
    ]


def test_left_is_on_the_right_in_radiological_convention_alone(brain: np.ndarray) -> None:
    columns = [
        np.argwhere(take_plane(brain, Cut(2, 7), orientation) == 1.0)[0][1]
        for orientation in ORIENTATIONS
    ]
    assert columns == [9, 1]


def test_frame_holds_the_brain_and_its_margin() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[5:10, 0:8, 12:20] = True
    assert frame_brain(mask, 2) == (slice(3, 12), slice(0, 10), slice(10, 22))
    assert take_plane(mask, Cut(2, 15, frame_brain(mask, 2))).shape == (10, 9)
    assert frame_brain(np.zeros((3, 3, 3), bool), 2) == (slice(None),) * 3


def test_cut_is_the_voxel_at_a_coordinate_inside_the_image() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -10
    assert [cut_at(mm, 0, affine, (11, 11, 11)) for mm in (-10, 0.9, 500)] == [0, 5, 10]


def test_scale_of_an_empty_map_is_not_zero() -> None:
    assert map_limit(np.zeros((3, 3), np.float32)) > 0
