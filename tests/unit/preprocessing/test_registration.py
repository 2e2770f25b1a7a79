"""Brains that lie far from the template's pose."""

import nibabel as nib
import numpy as np
import pytest

from brainage.config import PreprocessingConfig
from brainage.preprocessing.registration import Alignment, register_candidates
from brainage.preprocessing.template import load_template
from brainage.types import Volume

SIDEWAYS = np.eye(4)
SIDEWAYS[:3, :3] = nib.eulerangles.euler2mat(0, 0, np.radians(110))


def find(restart_below: float) -> tuple[int, Alignment]:
    template = load_template(4)
    lying = Volume(template.intensity, SIDEWAYS @ template.affine)
    settings = PreprocessingConfig(restart_below_correlation=restart_below, restart_degrees=(90.0,))
    sliver = template.mask & (np.arange(template.mask.shape[2]) < 12)
    return register_candidates(lying, [sliver, template.mask], settings)


@pytest.mark.parametrize(("restart_below", "good"), [(0.93, True), (-1.0, False)])
def test_a_brain_on_its_side_is_found_from_other_poses(restart_below: float, good: bool) -> None:
    index, found = find(restart_below)
    off = np.abs(found.to_scan[:3, :3] - SIDEWAYS[:3, :3]).max()
    assert (off < 0.1) == (found.correlation > 0.93) == good
    assert index == 1 or not good
