"""Raw values alone tell labels, masks, probability maps and CT from images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from brainage.cohorts.phantom import build_phantom
from brainage.errors import BrainageError, PreparationError
from brainage.preprocessing.pipeline import process_volume
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template, load_tissues
from brainage.preprocessing.values import describe_values
from brainage.scans.volume import load_volume
from brainage.types import FloatArray, Volume
from tests.heads import FAST, build_head

AFFINE = load_template(TISSUE_SPACING_MM).affine


def tissue_shares() -> dict[str, FloatArray]:
    white, grey = load_tissues()
    brain = load_template(TISSUE_SPACING_MM).mask
    return {"white": white, "grey": grey, "fluid": np.where(brain, 1 - white - grey, 0).clip(0, 1)}


def tissue_labels() -> FloatArray:
    """0 outside, then fluid, grey and white matter."""
    shares = tissue_shares()
    stacked = np.stack([shares[name] for name in ("fluid", "grey", "white")])
    brain = load_template(TISSUE_SPACING_MM).mask
    return np.where(brain, 1 + stacked.argmax(axis=0), 0).astype(np.float32)


def parcels(count: int, seed: int) -> FloatArray:
    """Labels of regions around random points of the brain, with gaps between their numbers."""
    rng = np.random.default_rng(seed)
    brain = load_template(TISSUE_SPACING_MM).mask
    points = rng.permutation(np.argwhere(brain))[:count]
    seeds = np.ones(brain.shape, bool)
    seeds[tuple(points.T)] = False
    nearest = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    numbers = np.zeros(brain.shape)
    numbers[tuple(points.T)] = rng.permutation(3000)[:count] + 1
    return np.where(brain, numbers[tuple(nearest)], 0).astype(np.float32)


def shift_between_voxels(data: FloatArray) -> FloatArray:
    """Interpolate half a voxel away, as a program does that resamples without thinking."""
    return ndimage.shift(data, (0.4, 0.3, 0.5), order=1).astype(np.float32)


def t1(seed: int, spacing_mm: int = 2) -> FloatArray:
    rngs = [np.random.default_rng([seed, part]) for part in (0, 1)]
    return build_phantom(30 + 10 * seed, *rngs, spacing_mm=spacing_mm).data


def in_steps(data: FloatArray, steps: int) -> FloatArray:
    return np.round(data / data.max() * steps).astype(np.float32)


IMAGES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "as it is": lambda data: data,
    "in 8 bits": lambda data: in_steps(data, 255),
    "in 40 steps": lambda data: in_steps(data, 40),
    "clipped": lambda data: np.minimum(data, np.percentile(data, 98)),
    "smoothed": lambda data: ndimage.gaussian_filter(data, 1.0),
    "slices doubled": lambda data: np.repeat(data, 2, axis=0),
    "z-scored": lambda data: np.where(
        data > 0, (data - data[data > 0].mean()) / data.std(), 0
    ).astype(np.float32),
    "background far below": lambda data: np.where(data > 0, data, np.float32(-1000)),
    "small, background far below": lambda data: np.where(
        data > 0, 4 * data / data.max(), np.float32(-1000)
    ).astype(np.float32),
    "resampled by splines": lambda data: ndimage.zoom(data, 1.5, order=3),
    "inverted": lambda data: np.where(data > 0, data.max() - data, 0),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("change", IMAGES)
def test_an_image_passes_whatever_its_numbers(change: str, seed: int) -> None:
    assert describe_values(Volume(IMAGES[change](t1(seed)), AFFINE)) == ""


@pytest.mark.parametrize("seed", range(3))
def test_a_whole_head_passes(seed: int) -> None:
    head = build_head(seed)
    for data in (head.data, in_steps(head.data, 255)):
        assert describe_values(Volume(data, head.affine)) == ""


MASKS = {
    "0 and 1": lambda mask: mask,
    "0 and 255": lambda mask: 255 * mask,
    "background 1": lambda mask: 1 - mask,
    "interpolated": shift_between_voxels,
    "a part of it": lambda mask: mask * (np.indices(mask.shape)[2] > 45),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_told(kind: str) -> None:
    brain = load_template(TISSUE_SPACING_MM).mask.astype(np.float32)
    assert "mask" in describe_values(Volume(MASKS[kind](brain).astype(np.float32), AFFINE))


@pytest.mark.parametrize("count", [8, 50, 150])
@pytest.mark.parametrize("interpolated", [False, True])
def test_labels_are_told_however_many_there_are(count: int, interpolated: bool) -> None:
    labels = parcels(count, count)
    if interpolated:
        labels = shift_between_voxels(labels)
    assert describe_values(Volume(labels, AFFINE)).startswith("labels, not an image")


@pytest.mark.parametrize("values", [(1, 2, 3), (24, 42, 2), (0.5, 1.5, 3.5), (-3, -2, -1)])
def test_tissue_labels_are_told_whatever_their_numbers(values: tuple[float, ...]) -> None:
    named = np.array([0, *values], np.float32)[tissue_labels().astype(int)]
    assert describe_values(Volume(named, AFFINE)).startswith("labels, not an image")


@pytest.mark.parametrize("tissue", ["white", "grey", "fluid"])
@pytest.mark.parametrize("factor", [1, 255])
def test_a_probability_map_is_told(tissue: str, factor: float) -> None:
    sharp = (4 * tissue_shares()[tissue] - 1.5).clip(0, 1)  # one person's, not the template's
    found = describe_values(Volume((factor * sharp).astype(np.float32), AFFINE))
    assert "probability map" in found


def test_ct_is_told_by_its_unit() -> None:
    head, rng = build_head(0), np.random.default_rng(0)
    shown = head.data / head.data.max()
    bone = (shown < 0.1) & (ndimage.distance_transform_edt(shown < 0.1) < 3)
    soft = 30 + 15 * shown
    data = np.where(shown > 0.1, soft, np.where(bone, 900, -1000)) + rng.normal(0, 4, soft.shape)
    assert "CT" in describe_values(Volume(data.astype(np.float32), head.affine))


def test_what_is_no_image_is_refused_before_it_is_placed() -> None:
    with pytest.raises(PreparationError, match=r"sub-7: labels, not an image"):
        process_volume(Volume(tissue_labels(), AFFINE), FAST, "sub-7")


@pytest.mark.parametrize(
    ("name", "words"), [("OAS1_0346_MR1_labels", "labels"), ("oas_mask", "mask")]
)
def test_strange_files_are_named(data_root: Path, name: str, words: str) -> None:
    path = data_root / "strange_inputs" / f"{name}.nii.gz"
    if not path.exists():
        pytest.skip("strange_inputs is not there")
    assert describe_values(load_volume(path)).startswith((words, f"a {words}"))


def test_a_segmentation_of_145_regions_is_labels(data_root: Path) -> None:
    for path in sorted(data_root.glob("ixi_dlmuse/*_dlmuse.nii.gz"))[::30]:
        assert describe_values(load_volume(path)).startswith("labels"), path.name


def test_real_images_pass(data_root: Path) -> None:
    heads = sorted(data_root.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[::20]
    brains = sorted(data_root.glob("oasis1/t1/*.nii.gz"))[::40]
    tight = sorted(data_root.glob("ds002748/**/*_T1w.nii.gz"))[::8]
    others = sorted((data_root / "odd_scans").iterdir())
    for path in [*heads, *brains, *tight, *others]:
        try:
            volume = load_volume(path)
        except BrainageError:
            continue
        assert describe_values(volume) == "", path.name
