"""Which scans count as brains in MNI space, and how they reach the grid."""

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import (
    TEMPLATE_CENTRE_MM,
    coarsen,
    find_foreground,
    grid_affine,
    is_brain_extracted,
    is_in_mni_space,
    resample,
)
from brainage.preprocessing.template import load_template
from brainage.scans.volume import load_volume
from brainage.types import Volume
from tests.heads import build_head

SETTINGS = PreprocessingConfig()


@pytest.fixture(scope="module")
def brain() -> Volume:
    return build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))


def changed(volume: Volume, data: np.ndarray) -> Volume:
    return Volume(np.ascontiguousarray(data, dtype=np.float32), volume.affine)


def onto_grid(volume: Volume) -> np.ndarray:
    scan = find_foreground(volume, "sub-7")
    return resample(scan, grid_affine(SETTINGS), SETTINGS.shape)[0]


def test_a_brain_in_mni_space_overlaps_the_template(brain: Volume) -> None:
    foreground = find_foreground(brain, "sub-7")
    assert is_brain_extracted(foreground)
    assert is_in_mni_space(foreground, 0.9)


@pytest.mark.parametrize("shift_mm", [(40, 0, 0), (0, 40, 0), (0, 0, -40)])
def test_a_brain_elsewhere_does_not(brain: Volume, shift_mm: tuple[float, ...]) -> None:
    affine = brain.affine.copy()
    affine[:3, 3] += shift_mm
    foreground = find_foreground(Volume(brain.data, affine), "sub-7")
    assert not is_in_mni_space(foreground, SETTINGS.min_mask_overlap)


def test_a_brain_of_natural_size_that_overlaps_by_chance_is_not_in_mni_space(
    brain: Volume,
) -> None:
    smaller = Volume(brain.data, np.diag([0.93, 0.93, 0.93, 1]) @ brain.affine)
    assert not is_in_mni_space(find_foreground(smaller, "sub-7"), 0.7)


@pytest.mark.parametrize("background", [-1000.0, 40.0])
def test_the_background_need_not_be_zero(brain: Volume, background: float) -> None:
    shifted = find_foreground(changed(brain, brain.data + background), "sub-7")
    expected = find_foreground(brain, "sub-7")
    np.testing.assert_allclose(shifted.volume.data, expected.volume.data, atol=1e-4)


def test_faint_noise_around_the_brain_is_background(brain: Volume) -> None:
    noise = np.random.default_rng(0).normal(0, 0.005 * brain.data.max(), brain.data.shape)
    noisy = find_foreground(changed(brain, brain.data + noise), "sub-7")
    assert (noisy.mask != find_foreground(brain, "sub-7").mask).mean() < 0.01


def test_a_whole_head_is_not_brain_extracted() -> None:
    assert not is_brain_extracted(find_foreground(build_head(), "sub-7"))


def test_a_scan_without_empty_background_is_not_brain_extracted(brain: Volume) -> None:
    noise = np.random.default_rng(0).uniform(0, brain.data.max(), brain.data.shape)
    assert not is_brain_extracted(find_foreground(changed(brain, noise), "sub-7"))


def test_the_grid_is_centred_on_the_templates_brain() -> None:
    image = load_mni152_brain_mask(resolution=1)
    places = np.argwhere(np.asarray(image.dataobj) > 0)
    ends = np.stack([places.min(axis=0), places.max(axis=0)])
    centre = nib.affines.apply_affine(image.affine, ends).mean(axis=0)
    np.testing.assert_allclose(centre, TEMPLATE_CENTRE_MM)
    middle = (np.array(SETTINGS.shape) - 1) / 2
    np.testing.assert_allclose(nib.affines.apply_affine(grid_affine(SETTINGS), middle), centre)


def test_resampling_keeps_positions() -> None:
    # Intensity = world x: wherever the grid looks, it must find its own coordinate.
    affine = np.diag([3.0, 2.0, 2.5, 1.0])
    affine[:3, 3] = [-120, -140, -110]
    x_mm = np.broadcast_to(affine[0, 3] + 3 * np.arange(80)[:, None, None], (80, 130, 90))
    volume = Volume(np.ascontiguousarray(x_mm, dtype=np.float32), affine)
    data = onto_grid(volume)
    grid_x_mm = grid_affine(SETTINGS)[0, 3] + SETTINGS.spacing_mm * np.arange(SETTINGS.shape[0])
    slope, intercept = np.polyfit(grid_x_mm, data[:, 24, 20], 1)
    np.testing.assert_allclose(data[:, 24, 20], slope * grid_x_mm + intercept, atol=1e-4)
    # The foreground's zero lies where x equals the background, the median over the faces.
    assert -intercept / slope == pytest.approx(-1.5, abs=0.1)


def test_detail_finer_than_the_grid_is_smoothed_away() -> None:
    stripes = np.zeros((182, 218, 182), np.float32)
    stripes[20:-20:2, 20:-20, 20:-20] = 1
    affine = np.eye(4)
    affine[:3, 3] = [-91, -126, -72]
    data = onto_grid(Volume(stripes, affine))
    inside = data[14:26, 18:30, 14:26]
    assert inside.std() < 0.05 * inside.mean()


def test_the_spacing_of_the_scan_hardly_matters() -> None:
    scans = [Volume(scan.intensity, scan.affine) for scan in (load_template(4), load_template(2))]
    coarse, fine = (onto_grid(scan) for scan in scans)
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.98


def test_coarsening_keeps_positions_and_contents() -> None:
    fine = load_template(2)
    scan = find_foreground(Volume(fine.intensity, fine.affine), "template")
    direct, _ = resample(scan, grid_affine(SETTINGS), SETTINGS.shape)
    coarse, _ = resample(coarsen(scan, 4.0), grid_affine(SETTINGS), SETTINGS.shape)
    assert coarsen(scan, 4.0).volume.spacing_mm == (4.0, 4.0, 4.0)
    moved = np.abs(np.roll(direct, 1, axis=0) - direct).mean()
    assert np.abs(coarse - direct).mean() < 0.25 * moved
    assert coarsen(scan, 2.0) is scan


def test_real_heads_and_real_brains_are_told_apart(data_root: Path) -> None:
    heads = sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[::9]
    brains = sorted((data_root / "oasis1" / "t1").glob("*.nii.gz"))[::45]
    for paths, expected in ((heads, False), (brains, True)):
        assert paths
        for path in paths:
            assert is_brain_extracted(find_foreground(load_volume(path), path.name)) is expected


def orientations() -> list[tuple[str, str, str]]:
    pairs = ["LR", "PA", "IS"]
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return [
        tuple(pairs[axis][way] for axis, way in zip(order, ways, strict=True))  # type: ignore[misc]
        for order in orders
        for ways in product((0, 1), repeat=3)
    ]


def test_all_48_orientations_give_the_same_bits(brain: Volume, tmp_path: Path) -> None:
    assert len(set(orientations())) == 48
    # Numbers that float32 headers cannot hold exactly, so that orientations differ by rounding.
    affine = np.diag([3.97, 4.03, 3.99, 1.0]) + 0
    affine[:3, 3] = brain.affine[:3, 3] + [0.123, 0.456, 0.789]
    image = nib.Nifti1Image(brain.data, affine)
    expected = None
    for code in orientations():
        turned = image.as_reoriented(
            nib.orientations.ornt_transform(
                nib.io_orientation(affine), nib.orientations.axcodes2ornt(code)
            )
        )
        nib.save(turned, tmp_path / "a.nii")
        scan = find_foreground(load_volume(tmp_path / "a.nii"), "a")
        data, mask = resample(scan, grid_affine(SETTINGS), SETTINGS.shape)
        expected = (data, mask) if expected is None else expected
        np.testing.assert_array_equal(data, expected[0])
        np.testing.assert_array_equal(mask, expected[1])
