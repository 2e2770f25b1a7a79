"""Intensities that no scanner's brightness changes."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import ndimage

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.mixture import share_tissue
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.source import ScanSource
from brainage.preprocessing.contrast import CLIP, FLUID, GREY, WHITE, normalise_in_brain
from brainage.preprocessing.inner import FEATHER_MM, load_inner_weight
from brainage.preprocessing.intensity import normalise_local, normalise_tissue
from brainage.preprocessing.mni import grid_affine, resample_volume
from brainage.preprocessing.priors import load_tissue_maps

SETTINGS = PreprocessingConfig()
INNER = PreprocessingConfig(intensity="local", inner_depth_mm=8.0)
fixed = examples(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def brain():
    phantom = build_phantom(40.0, np.random.default_rng(0), np.random.default_rng(1))
    data = resample_volume(phantom, grid_affine(SETTINGS), SETTINGS.shape)
    return data, data > 0.05 * data.max()


def test_tissue_maps_are_made_once_and_cannot_be_written_to():
    grey, _, _ = load_tissue_maps(SETTINGS)
    assert load_tissue_maps(SETTINGS)[0] is grey
    with pytest.raises(ValueError, match="read-only"):
        grey[0] = 1


def test_tissue_means_become_one_two_and_three(brain):
    result = normalise_tissue(*brain, SETTINGS, "scan")
    grey, white, _ = load_tissue_maps(SETTINGS)
    assert np.median(result[white > 0.95]) == pytest.approx(WHITE, abs=0.4)
    assert np.median(result[grey > 0.9]) == pytest.approx(GREY, abs=0.25)
    assert result.min() == 0 and FLUID < result[brain[1]].mean() < WHITE


@pytest.mark.parametrize("settings", [SETTINGS, INNER], ids=["whole", "inner"])
@pytest.mark.parametrize("normalise", [normalise_tissue, normalise_local])
def test_brightness_and_contrast_of_the_scanner_do_not_matter(brain, normalise, settings):
    data, mask = brain
    first = normalise(data, mask, settings, "scan")
    second = normalise(data * 7 + 1000, mask, settings, "scan")
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_a_bias_field_leaves_little_trace_in_local_contrast(brain):
    data, mask = brain
    ramp = np.exp(np.linspace(-0.2, 0.2, data.shape[1], dtype=np.float32))[None, :, None]
    plain, biased = (normalise_local(item, mask, SETTINGS, "scan") for item in (data, data * ramp))
    assert np.corrcoef(plain[mask], biased[mask])[0, 1] > 0.98


def test_tissue_contrast_is_the_same_after_a_change_between_the_tissues(brain):
    data, mask = brain
    _, white, _ = load_tissue_maps(SETTINGS)
    result = normalise_tissue(np.sqrt(data), mask, SETTINGS, "scan")
    assert np.median(result[white > 0.95]) == pytest.approx(WHITE, abs=0.4)


@pytest.mark.parametrize("normalise", [normalise_tissue, normalise_local])
def test_a_constant_brain_is_refused(brain, normalise):
    with pytest.raises(PreparationError, match="no brain with contrast"):
        normalise(np.ones_like(brain[0]), brain[1], SETTINGS, "scan")


@given(seed=st.integers(0, 2**31), share=st.floats(0, 1), margin=st.integers(0, 3))
@fixed
@pytest.mark.parametrize("normalise", [normalise_tissue, normalise_local])
def test_no_mask_that_holds_the_inner_brain_changes_a_bit_of_it(
    normalise, brain, seed, share, margin
):
    data, _ = brain
    inner = load_inner_weight(INNER) > 0
    ragged = np.random.default_rng(seed).random(data.shape) < share
    loose = ragged & ndimage.binary_dilation(inner, iterations=4 + margin)
    strange = np.where(inner, data, np.float32(1e4)), inner | loose
    expected = normalise(data, np.ones_like(inner), INNER, "scan")
    found = normalise(*strange, INNER, "scan")
    np.testing.assert_array_equal(found, expected)
    assert not expected[~inner].any()


@pytest.mark.parametrize("normalise", [normalise_tissue, normalise_local])
def test_what_a_tight_mask_leaves_out_of_the_inner_brain_counts_as_fluid(brain, normalise):
    data, mask = brain
    white = load_tissue_maps(INNER)[1]
    hole = np.zeros_like(mask)
    hole[18:22, 26:30, 24:27] = True
    hole &= (white > 0.9) & (load_inner_weight(INNER) == 1)
    assert hole.sum() > 5
    plain, holed = (normalise(data, part, INNER, "scan") for part in (mask, mask & ~hole))
    fluid = np.where(hole, np.quantile(data[mask], 0.05), data).astype(np.float32)
    dark = normalise(fluid, mask, INNER, "scan")
    assert np.abs(holed - dark)[hole].mean() < 0.5 * np.abs(plain - dark)[hole].mean()


def test_inner_contrast_has_a_mean_size_of_one(brain):
    weight = load_inner_weight(INNER)
    result = normalise_local(*brain, INNER, "scan")
    assert np.abs(result).sum() / weight.sum() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("depth_mm", [4.0, 8.0, 12.0])
@pytest.mark.parametrize("spacing_mm", [3.0, 6.0])
def test_the_inner_brain_lies_as_deep_as_asked(depth_mm, spacing_mm):
    settings = INNER.on_grid(spacing_mm, (160.0, 192.0, 160.0))
    settings = settings.model_copy(update={"inner_depth_mm": depth_mm})
    weight, brain = load_inner_weight(settings), np.sum(load_tissue_maps(settings), axis=0) > 0
    depth = ndimage.distance_transform_edt(brain, sampling=spacing_mm)
    slack = FEATHER_MM / 2 + 1.5 * spacing_mm
    assert (depth[weight > 0] > depth_mm - slack).all()
    assert (weight[depth > depth_mm + slack] == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1


def test_intensity_of_the_whole_brain_has_no_inner_depth():
    with pytest.raises(ValueError, match="inner_depth_mm"):
        PreprocessingConfig(intensity="brain", inner_depth_mm=8.0)
    assert "inner_depth_mm" not in SETTINGS.model_dump(mode="json")


def test_inverted_contrast_is_refused(brain):
    data, mask = brain
    with pytest.raises(PreparationError, match="rising brightness"):
        normalise_tissue(data.max() - data, mask, SETTINGS, "scan")


def test_mixture_finds_the_means_it_was_drawn_from():
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 3, 3000)
    weights = np.full((3, 3000), 0.2)
    weights[tissue, np.arange(3000)] = 0.6
    values = np.array([0.0, 2.0, -2.0])[tissue] + rng.normal(0, 0.3, 3000)
    means, shares = share_tissue(values, weights)
    np.testing.assert_allclose(means, [0.0, 2.0, -2.0], atol=0.1)
    np.testing.assert_allclose(shares.sum(axis=0), 1)


@pytest.mark.parametrize("intensity", ["brain", "tissue", "local"])
def test_prepared_scans_have_the_intensities_that_settings_name(tmp_path, intensity):
    phantom = build_phantom(40.0, np.random.default_rng(0), np.random.default_rng(1))
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(phantom.data, phantom.affine), path)
    settings = SETTINGS.model_copy(update={"intensity": intensity})
    array = prepare_scan(ScanSource(path), settings).array
    assert (array.min() >= 0) == (intensity == "tissue") and (array == 0).mean() > 0.3


def test_the_brain_gets_mean_0_and_deviation_1_and_the_rest_0() -> None:
    data = np.random.default_rng(0).normal(300, 20, (8, 9, 10)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[2:6, 2:6, 2:6] = True
    scaled = normalise_in_brain(data, mask, "scan")
    assert scaled[mask].mean() == pytest.approx(0, abs=1e-5)
    assert scaled[mask].std(ddof=1) == pytest.approx(1, abs=1e-5)
    assert not scaled[~mask].any()


def test_brightness_and_contrast_of_the_scanner_vanish() -> None:
    data = np.random.default_rng(0).normal(0, 1, (8, 9, 10)).astype(np.float32)
    mask = np.ones(data.shape, bool)
    plain, bright = (normalise_in_brain(scan, mask, "scan") for scan in (data, data * 70 + 500))
    np.testing.assert_allclose(plain, bright, atol=1e-4)


def test_outliers_are_clipped() -> None:
    data = np.random.default_rng(0).normal(0, 1, (8, 9, 10)).astype(np.float32)
    data[4, 4, 4] = 1e6
    assert normalise_in_brain(data, np.ones(data.shape, bool), "scan").max() == CLIP


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_a_brain_without_contrast_is_refused(value: float) -> None:
    data = np.full((8, 9, 10), value, np.float32)
    with pytest.raises(PreparationError, match="sub-1: there is no brain with contrast"):
        normalise_in_brain(data, np.ones(data.shape, bool), "sub-1")
