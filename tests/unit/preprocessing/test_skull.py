"""The inside of the skull, on heads whose brain is known."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.locate import Clock, locate_brain
from brainage.preprocessing.mni import dice, resample_volume
from brainage.preprocessing.skull import find_brain_in_skull, load_skull
from brainage.preprocessing.template import load_template
from brainage.scans.volume import load_volume
from brainage.types import BoolArray, Volume


def test_a_surface_moves_by_the_offset_that_it_is_given() -> None:
    surface = load_skull().surface
    litres = [
        float((surface.move(np.full(len(surface.points), offset)) < 0).sum() * 8e-6)
        for offset in (-2.0, 0.0, 2.0)
    ]
    # About 0.16 L a shell of 2 mm around a brain of 1.9 L.
    assert litres[0] + 0.1 < litres[1] < litres[2] - 0.1


@pytest.mark.parametrize("gap_mm", [1.0, 3.0])
def test_the_skull_is_found_however_wide_the_fluid_under_it(gap_mm: float) -> None:
    head, inside = _draw_head(gap_mm)
    found = find_brain_in_skull(head, np.eye(4))
    mask = resample_volume(found, head.affine, head.data.shape) >= 0.5
    assert dice(mask, inside) > 0.95
    assert abs(mask.sum() / inside.sum() - 1) < 0.08


def _draw_head(gap_mm: float) -> tuple[Volume, BoolArray]:
    """Draw the template's brain, shrunken, inside a skull that stays where it is."""
    template = load_template(2)
    pad = 20
    distance = np.pad(load_skull().surface.distance_mm, pad, mode="edge")
    skull_mm = ndimage.distance_transform_edt(distance > 0) * 2
    inside = distance <= 0
    data = np.where(inside, np.float32(0.25), np.float32(0.05))
    data[(skull_mm > 8) & (skull_mm <= 16)] = 0.9
    data[skull_mm > 16] = 0
    depth_mm = ndimage.distance_transform_edt(inside) * 2
    intensity = np.pad(template.intensity, pad)
    brain = (depth_mm > gap_mm) & (intensity > 0)
    data[brain] = intensity[brain]
    affine = template.affine.copy()
    affine[:3, 3] -= pad * 2
    return Volume(ndimage.gaussian_filter(data, 0.5), affine), inside


@pytest.mark.parametrize("number", [3, 41, 77])
def test_masks_agree_with_an_independent_segmentation(number: int, data_root: Path) -> None:
    files = sorted(data_root.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))
    path = files[number]
    found = locate_brain(load_volume(path), None, PreprocessingConfig(), path.name, Clock())
    name = path.name.replace("_T1w", "_dlmuse")
    reference = load_volume(data_root / "ixi_dlmuse" / name)
    mask = resample_volume(found.placement.mask, reference.affine, reference.data.shape) >= 0.5
    assert dice(mask, reference.data > 0) > 0.97
