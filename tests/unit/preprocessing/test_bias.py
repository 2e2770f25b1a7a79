"""The bias field of heads whose field is known."""

import numpy as np
import pytest

from brainage.config import PreprocessingConfig
from brainage.preprocessing.bias import correct_bias, correct_inside, estimate_line
from brainage.preprocessing.registration import Alignment
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template
from brainage.types import BoolArray, DoubleArray, Volume

SETTINGS = PreprocessingConfig()
TEMPLATE = load_template(TISSUE_SPACING_MM)
INSIDE: BoolArray = TEMPLATE.distance_mm <= -6
MOVED = Alignment(np.array([3.0, -2, 4, 0.1, 0, 0.05, 0.05, 0, -0.05, 0, 0, 0]), 1.0)


def tilted(slopes: tuple[float, float, float]) -> tuple[Volume, DoubleArray]:
    """Return a head that is the template, moved and brightened along a line, and that line."""
    places = np.moveaxis(np.indices(TEMPLATE.mask.shape), 0, -1) @ TEMPLATE.affine[:3, :3].T
    log = (places - places[INSIDE].mean(axis=0)) @ np.array(slopes) / 100
    data = (TEMPLATE.intensity * np.exp(log)).astype(np.float32)
    return Volume(data, MOVED.to_scan @ TEMPLATE.affine), log


@pytest.mark.parametrize("slopes", [(0.0, 0.0, 0.0), (0.8, 0.0, 0.0), (-0.3, 0.9, -0.6)])
def test_a_line_of_brightness_is_found_wherever_the_head_lies(
    slopes: tuple[float, float, float],
) -> None:
    head, log = tilted(slopes)
    straight = correct_bias(head, estimate_line(head, MOVED, SETTINGS))
    left = straight.data[INSIDE] / TEMPLATE.intensity[INSIDE]
    assert np.ptp(np.log(left)) < 0.02 + 0.02 * np.ptp(log[INSIDE])


def test_what_is_not_like_the_template_bends_no_line() -> None:
    head, _ = tilted((0.5, 0.0, 0.0))
    line = estimate_line(head, MOVED, SETTINGS).data
    dark = head.data.copy()
    dark[60:72, 40:60, 40:52] = 0.2  # a lesion on one side
    found = estimate_line(Volume(dark, head.affine), MOVED, SETTINGS).data
    assert np.abs(np.log(found / line)).max() < 0.03


def test_a_field_that_n4_alone_leaves_is_gone() -> None:
    head, log = tilted((1.2, 0.0, 0.0))
    corrected, bias = correct_inside(head, MOVED, SETTINGS)
    left = np.log(corrected.data[INSIDE] / TEMPLATE.intensity[INSIDE])
    slope = np.polyfit(log[INSIDE], left, 1)[0]
    assert abs(slope) < 0.1
    assert (bias.data == bias.data.astype(np.float16)).all()
