"""A constant around a brain is no tissue, whatever its value."""

import numpy as np
import pytest

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.preprocessing.background import clear_background
from brainage.preprocessing.pipeline import process_volume
from brainage.types import FloatArray, Volume
from tests.heads import build_head

SETTINGS = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 20))


@pytest.fixture(scope="module")
def brain() -> Volume:
    rngs = [np.random.default_rng([3, index]) for index in range(2)]
    return build_phantom(50, *rngs, spacing_mm=4)


def _standardise(data: FloatArray) -> FloatArray:
    inside = data != 0
    values = data[inside]
    result = np.zeros_like(data)
    result[inside] = (values - values.mean()) / values.std()
    return result


@pytest.mark.parametrize("background", [-1000.0, 255.0, -1.0])
def test_any_constant_around_a_brain_is_the_same_scan(background: float, brain: Volume) -> None:
    data = np.where(brain.data == 0, np.float32(background), brain.data)
    cleared = clear_background(Volume(data, brain.affine))
    np.testing.assert_array_equal(cleared.data, brain.data)


def test_a_brain_with_zeros_around_stays_as_it_is(brain: Volume) -> None:
    assert clear_background(brain) is brain


def test_a_brain_of_mean_zero_gives_the_image_that_it_came_from(brain: Volume) -> None:
    images = [
        process_volume(Volume(data, brain.affine), SETTINGS, "brain")
        for data in (brain.data, _standardise(brain.data))
    ]
    inside = images[0].mask
    one, other = (image.image.data[inside] for image in images)
    assert np.corrcoef(one, other)[0, 1] > 0.999
    assert (images[0].mask != images[1].mask).mean() < 0.01


def test_a_whole_head_in_noise_stays_as_it_is() -> None:
    head = build_head()
    assert clear_background(head) is head
