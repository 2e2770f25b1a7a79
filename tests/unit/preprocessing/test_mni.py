"""Which scans count as brains in MNI space, and how they reach the grid."""

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask

from brainage.config import PreprocessingConfig
from brainage.data.phantom import build_phantom
from brainage.data.volume import load_volume
from brainage.errors import BrainageError, PreparationError
from brainage.preprocessing.mni import (
    TEMPLATE_CENTRE_MM,
    coarsen,
    find_foreground,
    grid_affine,
    load_template,
    prepare_volume,
    resample_to_grid,
)
from brainage.types import Volume

SETTINGS = PreprocessingConfig()


@pytest.fixture(scope="module")
def brain() -> Volume:
    return build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))


def refused(volume: Volume, match: str, settings: PreprocessingConfig = SETTINGS) -> None:
    with pytest.raises(PreparationError, match=match) as caught:
        prepare_volume(volume, settings, "sub-7")
    assert str(caught.value).startswith("sub-7: ")


def changed(volume: Volume, data: np.ndarray) -> Volume:
    return Volume(np.ascontiguousarray(data, dtype=np.float32), volume.affine)


def test_a_brain_in_mni_space_arrives_on_the_grid(brain: Volume) -> None:
    data, mask = prepare_volume(brain, SETTINGS, "sub-7")
    assert data.shape == mask.shape == SETTINGS.shape
    assert data.dtype == np.float32
    assert 1.5e6 < mask.sum() * SETTINGS.spacing_mm**3 < 2.3e6


@pytest.mark.parametrize("background", [-1000.0, 40.0])
def test_the_background_need_not_be_zero(brain: Volume, background: float) -> None:
    shifted = changed(brain, brain.data + background)
    expected, _ = prepare_volume(brain, SETTINGS, "sub-7")
    data, _ = prepare_volume(shifted, SETTINGS, "sub-7")
    np.testing.assert_allclose(data, expected, atol=1e-4)


def test_faint_noise_around_the_brain_is_background(brain: Volume) -> None:
    noise = np.random.default_rng(0).normal(0, 0.005 * brain.data.max(), brain.data.shape)
    _, mask = prepare_volume(changed(brain, brain.data + noise), SETTINGS, "sub-7")
    _, expected = prepare_volume(brain, SETTINGS, "sub-7")
    assert (mask != expected).mean() < 0.01


def test_a_whole_head_is_refused_and_told_what_to_do(brain: Volume) -> None:
    grid = np.indices(brain.data.shape).reshape(3, -1).T - (np.array(brain.data.shape) - 1) / 2
    head = (np.linalg.norm(grid, axis=1) < 22).reshape(brain.data.shape)
    scan = changed(brain, np.where(brain.data > 0, brain.data, head * 200.0))
    refused(scan, "not brain-extracted.*got 2.9. L.*Raw heads are not accepted yet: extract")


def test_a_scan_without_empty_background_is_refused(brain: Volume) -> None:
    noise = np.random.default_rng(0).uniform(0, brain.data.max(), brain.data.shape)
    refused(changed(brain, noise), "expected a uniform background")


@pytest.mark.parametrize("shift_mm", [(40, 0, 0), (0, 40, 0), (0, 0, -40)])
def test_a_brain_elsewhere_is_refused(brain: Volume, shift_mm: tuple[float, ...]) -> None:
    affine = brain.affine.copy()
    affine[:3, 3] += shift_mm
    refused(Volume(brain.data, affine), "not in MNI space.*Dice 0.[0-7]")


def test_an_upside_down_brain_is_refused(brain: Volume) -> None:
    refused(changed(brain, brain.data[:, :, ::-1]), "not in MNI space")


def test_t2_contrast_is_refused(brain: Volume) -> None:
    inverted = np.where(brain.data > 0, 1.1 * brain.data.max() - brain.data, 0)
    refused(changed(brain, inverted), "does not look T1-weighted: correlation .* is -0")


def test_an_almost_empty_image_is_refused(brain: Volume) -> None:
    data = np.zeros_like(brain.data)
    data[25, 25, 25] = 1
    refused(changed(brain, data), "nearly all voxels equal the background")


def test_a_crumb_of_tissue_is_refused() -> None:
    # Eight voxels of 0.2 mm are less than one block that fine scans are averaged over.
    data = np.zeros((8, 8, 8), np.float32)
    data[2:6, 2:6, 2:6] = np.random.default_rng(0).uniform(1, 2, (4, 4, 4))
    refused(Volume(data, np.diag([0.2, 0.2, 0.2, 1])), "not in MNI space")


def test_the_thresholds_are_the_settings(brain: Volume) -> None:
    refused(brain, "not in MNI", SETTINGS.model_copy(update={"min_mask_overlap": 0.999}))
    refused(brain, "T1-weighted", SETTINGS.model_copy(update={"min_template_correlation": 0.99}))


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
    data, _ = resample_to_grid(find_foreground(volume, "sub-7"), SETTINGS)
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
    data, _ = resample_to_grid(find_foreground(Volume(stripes, affine), "x"), SETTINGS)
    inside = data[14:26, 18:30, 14:26]
    assert inside.std() < 0.05 * inside.mean()


def test_the_spacing_of_the_scan_hardly_matters() -> None:
    coarse, fine = (
        prepare_volume(Volume(scan.intensity, scan.affine), SETTINGS, "template")[0]
        for scan in (load_template(4), load_template(2))
    )
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.98


def test_coarsening_keeps_positions_and_contents() -> None:
    fine = load_template(2)
    scan = find_foreground(Volume(fine.intensity, fine.affine), "template")
    direct, _ = resample_to_grid(scan, SETTINGS)
    coarse, _ = resample_to_grid(coarsen(scan, 4.0), SETTINGS)
    assert coarsen(scan, 4.0).volume.spacing_mm == (4.0, 4.0, 4.0)
    moved = np.abs(np.roll(direct, 1, axis=0) - direct).mean()
    assert np.abs(coarse - direct).mean() < 0.25 * moved
    assert coarsen(scan, 2.0) is scan


def test_whole_heads_are_refused(data_root: Path) -> None:
    heads = sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[::6]
    assert heads
    for path in heads:
        refused(load_volume(path), "not brain-extracted.*Raw heads are not accepted yet")


def test_brains_of_oasis_pass(data_root: Path) -> None:
    scans = sorted((data_root / "oasis1" / "t1").glob("*.nii.gz"))[::30]
    assert scans
    # The two worst registered of all 267, too: the default thresholds lie just below them.
    for name in ("OAS1_0198_MR1", "OAS1_0254_MR1"):
        scans.append(data_root / "oasis1" / "t1" / f"{name}.nii.gz")
    for path in scans:
        assert prepare_volume(load_volume(path), SETTINGS, path.name)[1].any()


def test_no_odd_scan_passes_and_each_says_why(data_root: Path) -> None:
    scans = sorted(path for path in (data_root / "odd_scans").iterdir() if ".nii" in path.name)
    scans += sorted((data_root / "odd_scans").glob("*.mgz"))
    assert len(scans) == 12
    for path in scans:
        with pytest.raises(BrainageError) as caught:
            prepare_volume(load_volume(path, path.name), SETTINGS, path.name)
        assert len(caught.value.reason) > 30


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
        data, mask = prepare_volume(load_volume(tmp_path / "a.nii"), SETTINGS, "a")
        expected = (data, mask) if expected is None else expected
        np.testing.assert_array_equal(data, expected[0])
        np.testing.assert_array_equal(mask, expected[1])
