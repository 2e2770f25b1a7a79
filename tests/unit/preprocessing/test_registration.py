"""Brains that lie far from the template's pose."""

import nibabel as nib
import numpy as np
import pytest

from brainage.preprocessing.registration import search_turns
from brainage.preprocessing.template import load_template
from brainage.types import DoubleArray, Volume

SIDEWAYS = np.eye(4)
SIDEWAYS[:3, :3] = nib.eulerangles.euler2mat(0, 0, np.radians(110))
QUARTERS = np.array([[0, 0, 0], [0, 0, np.pi / 2], [0, 0, np.pi], [0, 0, -np.pi / 2]])


@pytest.mark.parametrize(("turns", "good"), [(QUARTERS, True), (QUARTERS[:1], False)])
def test_a_brain_on_its_side_is_found_from_other_turns(turns: DoubleArray, good: bool) -> None:
    template = load_template(4)
    lying = Volume(template.intensity, SIDEWAYS @ template.affine)
    sliver = template.mask & (np.arange(template.mask.shape[2]) < 12)
    found = search_turns(lying, [sliver, template.mask], turns)
    off = np.abs(found.to_scan[:3, :3] - SIDEWAYS[:3, :3]).max()
    assert (off < 0.1) == (found.correlation > 0.93) == good
