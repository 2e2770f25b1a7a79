"""Slices that step, repeat or are lost, each in an image whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from brainage.preprocessing.slices import measure_slices
from brainage.preprocessing.verdict import FIXED
from brainage.types import FloatArray

SIDE = 60


def ball() -> tuple[FloatArray, np.ndarray]:
    """Structures of some voxels in a ball, as bright as white matter and half of it."""
    rng = np.random.default_rng(0)
    data = ndimage.gaussian_filter(rng.normal(size=(SIDE,) * 3), 1.5)
    mask = np.linalg.norm(np.indices(data.shape) - SIDE / 2, axis=0) < 25
    return np.where(mask, 0.75 + 0.25 * data / data.std(), 0).astype(np.float32), mask


def repeat(data: FloatArray) -> FloatArray:
    data[:, 30:32] = data[:, 29:30]
    return data


def brighten(data: FloatArray) -> FloatArray:
    data[:, 30:] *= 1.5
    return data


def lose(data: FloatArray) -> FloatArray:
    return np.concatenate([data[:, :28], data[:, 34:]], axis=1)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (np.copy, set()),
        (repeat, {"slice_repeat", "slice_jump"}),
        (brighten, {"slice_jump"}),
        (lose, {"slice_jump"}),
    ],
)
def test_slices_that_do_not_follow_one_another_are_told(
    change: Callable[[FloatArray], FloatArray], broken: set[str], axis: int
) -> None:
    data, mask = ball()
    changed = change(data.copy())
    kept = lose(mask) if change is lose else mask
    found = measure_slices(np.moveaxis(changed, 1, axis), np.moveaxis(kept, 1, axis))
    bad = {
        "slice_jump": found["slice_jump"] > FIXED["slice_jump"],
        "slice_repeat": found["slice_repeat"] < FIXED["slice_repeat"],
    }
    assert {name for name, is_bad in bad.items() if is_bad} == broken


def test_contrast_noise_and_a_field_do_not_count() -> None:
    data, mask = ball()
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, data.shape)
    field = np.linspace(0.6, 1.4, SIDE)[:, None, None]
    for changed in (1000 * data, data + noise, data * field):
        found = measure_slices(changed.astype(np.float32), mask)
        assert found["slice_jump"] < 1.3 and found["slice_repeat"] > 0.7


def test_too_little_to_compare_is_not_measured() -> None:
    data, mask = ball()
    assert measure_slices(data, mask & False) == {}
    assert measure_slices(np.ones_like(data), mask) == {}
    box = mask & False
    box[28:32, 28:32, 28:32] = True
    assert measure_slices(data, box) == {}
