"""Regions lie where anatomy has them."""

import numpy as np
import pytest

from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.priors import load_tissue_maps
from brainage.preprocessing.regions import OUTSIDE, load_regions

SETTINGS = PreprocessingConfig(spacing_mm=4.0, shape=(40, 48, 40))


@pytest.fixture(scope="module")
def regions():
    return load_regions(SETTINGS)


def grey_region_at(regions, *world_mm: float) -> str:
    """Commonest region of the 27 voxels around a point, white matter and fluid left out."""
    index = np.linalg.inv(grid_affine(SETTINGS)) @ [*world_mm, 1.0]
    i, j, k = np.round(index[:3]).astype(int)
    around = regions.labels[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].ravel()
    names = [regions.names[label] for label in around]
    grey = [name for name in names if name not in ("white matter", "sulcal fluid", "ventricles")]
    return max(set(grey), key=grey.count)


@pytest.mark.parametrize(
    ("world_mm", "name"),
    [
        ((-34, 58, 2), "left frontal"),
        ((34, 58, 2), "right frontal"),
        ((-8, -90, 0), "left occipital"),
        ((54, -8, -26), "right temporal"),
        ((-26, -20, -16), "left medial temporal"),
        ((26, -64, -32), "right cerebellum"),
        ((0, 50, 70), OUTSIDE),
    ],
)
def test_landmarks_fall_into_their_regions(regions, world_mm, name):
    assert grey_region_at(regions, *world_mm) == name


def test_regions_mirror_each_other_in_size(regions):
    sizes = np.bincount(regions.labels.ravel(), minlength=len(regions.names))
    by_name = dict(zip(regions.names, sizes, strict=True))
    assert by_name["ventricles"] > 50 and by_name["white matter"] > 3000
    for lobe in ("frontal", "parietal", "temporal", "occipital", "cerebellum"):
        left, right = by_name[f"left {lobe}"], by_name[f"right {lobe}"]
        assert 0.5 < left / right < 2


def test_tissue_maps_are_shares_inside_the_brain():
    grey, white, fluid = load_tissue_maps(SETTINGS)
    total = grey + white + fluid
    np.testing.assert_allclose(total[total > 0], 1.0, atol=1e-5)
    assert min(grey.min(), white.min(), fluid.min()) >= 0
    litres = np.array([grey.sum(), white.sum(), fluid.sum()]) * 4**3 / 1e6
    assert 0.6 < litres[0] < 1.1 and 0.4 < litres[1] < 0.8 and 0.05 < litres[2] < 0.6
