"""Each measure of the quality gate against an image whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from brainage.preprocessing import quality
from brainage.preprocessing.locate import Located, Placement
from brainage.preprocessing.registration import Alignment
from brainage.preprocessing.template import (
    CHECK_SPACING_MM,
    TISSUE_SPACING_MM,
    load_template,
    load_tissues,
)
from brainage.preprocessing.verdict import FIXED
from brainage.types import Volume


def tissue_image() -> tuple[np.ndarray, np.ndarray]:
    """Fluid 1, grey 2, white 3 by the template's shares, and the brain."""
    white, grey = load_tissues()
    mask = load_template(TISSUE_SPACING_MM).mask
    return np.where(mask, 1 + grey + 2 * white, 0).astype(np.float32), mask


@pytest.fixture(scope="module")
def tissue() -> dict[str, float]:
    return quality._measure_tissue(*tissue_image())


STRAIGHT = Alignment(np.zeros(12), 1.0)


def located(data: np.ndarray, kind: str = "mni brain", **more: object) -> Located:
    template = load_template(TISSUE_SPACING_MM)
    mask = Volume(template.mask.astype(np.float32), template.affine)
    return Located(Placement(kind, mask, np.eye(4)), Volume(data, template.affine), **more)


@pytest.fixture(scope="module")
def template_measures() -> dict[str, float]:
    place = located(load_template(TISSUE_SPACING_MM).intensity)
    return quality.measure(place, place.volume)


def test_the_template_measures_as_itself(template_measures: dict[str, float]) -> None:
    assert template_measures["template_correlation"] > 0.9
    assert template_measures["mask_overlap"] > 0.97
    litres = load_template(TISSUE_SPACING_MM).mask.sum() * TISSUE_SPACING_MM**3 / 1e6
    assert template_measures["mask_litres"] == pytest.approx(litres)
    assert template_measures["outside_view"] == 0
    assert template_measures["slice_mm"] == TISSUE_SPACING_MM
    assert template_measures["white_overlap"] > 0.7
    registered = {"extracted_correlation", "scale_largest", "stretch_ratio", "ghost"}
    assert not registered & set(template_measures)


def test_what_registration_did_is_measured() -> None:
    template = load_template(TISSUE_SPACING_MM)
    parameters = np.zeros(12)
    parameters[6:9] = -np.log([1.2, 1.0, 0.8])
    alignment = Alignment(parameters, 0.4)
    found = quality.measure(
        located(template.intensity, alignment=alignment),
        Volume(template.intensity, template.affine),
    )
    assert found["extracted_correlation"] == 0.4
    scales = [found[name] for name in ("scale_largest", "scale_smallest", "stretch_ratio")]
    np.testing.assert_allclose(scales, [1.2, 0.8, 1.5])


def test_a_coarse_file_has_no_sharpness(template_measures: dict[str, float]) -> None:
    place = located(load_template(TISSUE_SPACING_MM).intensity)
    for spacing, measured in (([2.0, 4, 4], True), ([3.0, 3, 3], False)):
        coarse = Volume(place.volume.data, np.diag([*spacing, 1.0]))
        found = quality.measure(place, coarse)
        assert ("sharpness" in found) == ("sharpness_balance" in found) == measured
        assert found["slice_mm"] == max(spacing) and "noise" in found
    assert "sharpness" in template_measures


def test_contrasts_are_differences_of_tissues_in_standard_deviations(
    tissue: dict[str, float],
) -> None:
    data, mask = tissue_image()
    white, grey = load_tissues()
    fluid = np.median(data[mask & (white + grey < 0.2)])
    medians = [np.median(data[mask & (white > 0.9)]), np.median(data[mask & (grey > 0.7)]), fluid]
    spread = data[mask].std()
    assert tissue["white_over_grey"] == pytest.approx((medians[0] - medians[1]) / spread)
    assert tissue["grey_over_fluid"] == pytest.approx((medians[1] - medians[2]) / spread)
    assert 0.8 < medians[0] - medians[1] < 1.2 and 0.5 < medians[1] - medians[2] < 1.2


def test_tissue_lies_where_the_templates_does(tissue: dict[str, float]) -> None:
    data, mask = tissue_image()
    assert tissue["white_overlap"] > 0.85 and tissue["grey_overlap"] > 0.75
    turned = quality._overlap_tissue(np.where(mask, 4 - data, 0).astype(np.float32), mask)
    assert turned["white_overlap"] < 0.2 and turned["grey_overlap"] > 0.6


def test_noise_is_its_standard_deviation_in_the_brains(tissue: dict[str, float]) -> None:
    data, mask = tissue_image()
    assert tissue["noise"] < 0.06
    noisy = data + np.random.default_rng(0).normal(0, 0.4, data.shape).astype(np.float32)
    found = quality._measure_tissue(noisy, mask)
    assert found["noise"] == pytest.approx(0.4 / noisy[mask].std(), rel=0.05)


@pytest.mark.parametrize("axis", range(3))
def test_blur_along_one_axis_is_seen(axis: int, tissue: dict[str, float]) -> None:
    data, mask = tissue_image()
    found = quality._measure_tissue(ndimage.uniform_filter1d(data, 5, axis=axis), mask)
    assert found["sharpness"] < 0.75 * tissue["sharpness"]
    assert found["sharpness_balance"] < 0.95 * tissue["sharpness_balance"]


def test_sharpness_is_the_mean_step_between_neighbours(tissue: dict[str, float]) -> None:
    data, mask = tissue_image()
    inside = ndimage.binary_erosion(ndimage.binary_closing(mask), iterations=2)
    steps = []
    for axis in range(3):
        before = np.roll(data, 1, axis)
        steps.append(np.abs(data - before)[inside].mean())
    assert tissue["sharpness"] == pytest.approx(min(steps) / data[mask].std(), rel=1e-4)
    assert tissue["sharpness_balance"] == pytest.approx(min(steps) / max(steps), rel=1e-4)


def test_gaps_in_the_mask_blur_nothing(tissue: dict[str, float]) -> None:
    data, mask = tissue_image()
    # A sheet of grey matter has the value of the background, as after z-scoring.
    gaps = mask & (np.abs(data - np.median(data[mask])) > 0.03 * data[mask].std())
    assert gaps.sum() < 0.99 * mask.sum()
    found = quality._measure_tissue(data, gaps)
    assert found["sharpness"] == pytest.approx(tissue["sharpness"], rel=0.1)


@pytest.mark.parametrize("kind", ["flat", "nowhere", "small"])
def test_without_contrast_or_tissue_it_is_no_t1(kind: str) -> None:
    data, mask = tissue_image()
    if kind == "flat":
        data = np.ones_like(data)
    elif kind == "nowhere":
        mask = np.zeros_like(mask)
    else:
        mask = mask & (np.cumsum(mask.ravel()).reshape(mask.shape) < 90)
    found = quality._measure_tissue(data, mask)
    assert found == {"white_over_grey": -1.0, "grey_over_fluid": -1.0}


def test_correlation_is_pearsons_inside_the_mask() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50))
    mask = np.arange(50) < 30
    expected = np.corrcoef(first[:30], second[:30])[0, 1]
    assert quality.correlate(first, second, mask) == pytest.approx(expected)
    assert quality.correlate(first, -first, mask) == pytest.approx(-1)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_correlation_needs_two_values_that_differ(count: int) -> None:
    values = np.array([1.0, 3.0, 2.0])
    found = quality.correlate(values, values, np.arange(3) < count)
    assert found == pytest.approx(1.0 if count == 2 else -1.0)
    assert quality.correlate(np.ones(3), values, np.ones(3, bool)) == -1.0


def air_head(air: float, low: float = 0.0, near: float = 0.0) -> tuple[Volume, np.ndarray]:
    """A ball of brightness 1 around a brain, and signal in the air: everywhere, below, near."""
    grid = np.indices((50, 50, 50)) - 25
    radius = np.sqrt((grid**2).sum(axis=0))
    data = np.where(radius < 10, 1.0, air)
    data[(grid[2] < -2) & (radius >= 10)] += low
    data[(radius >= 10) & (radius < 11.5)] += near
    return Volume(data.astype(np.float32), np.diag([4.0, 4, 4, 1])), radius < 8


def test_ghosts_are_signal_in_the_air_as_a_share_of_the_brains() -> None:
    head, brain = air_head(0.1)
    assert quality._measure_air(head, brain) == pytest.approx({"ghost": 0.1}, rel=1e-3)
    bright = Volume(head.data * 5, head.affine)
    assert quality._measure_air(bright, brain) == pytest.approx({"ghost": 0.1}, rel=1e-3)


def test_below_the_brain_and_near_the_head_is_no_air() -> None:
    assert quality._measure_air(*air_head(0.0, low=0.2)) == {"ghost": 0.0}
    assert quality._measure_air(*air_head(0.0, near=0.2))["ghost"] < 0.01


def test_a_head_that_fills_the_image_leaves_no_air() -> None:
    head, brain = air_head(0.1)
    inside = slice(17, 33)
    cut = Volume(head.data[inside, inside, inside], head.affine)
    assert quality._measure_air(cut, brain[inside, inside, inside]) == {}


def test_air_is_measured_in_raw_heads_alone() -> None:
    head, brain = air_head(0.1)
    template = load_template(TISSUE_SPACING_MM)
    for kind, measured in (("raw head", True), ("masked head", False)):
        place = located(template.intensity, kind)
        mask = Volume(brain.astype(np.float32), head.affine)
        moved = Located(Placement(kind, mask, np.eye(4)), place.volume, STRAIGHT, head)
        assert ("ghost" in quality.measure(moved, place.volume)) == measured


def test_the_share_of_the_brain_outside_the_scan_is_counted() -> None:
    template = load_template(CHECK_SPACING_MM)
    whole = Volume(template.intensity, template.affine)
    assert quality._outside_view(whole, np.eye(4)) == 0
    half = template.mask.shape[2] // 2
    cut = Volume(template.intensity[:, :, :half], template.affine)
    expected = template.mask[:, :, half:].sum() / template.mask.sum()
    assert quality._outside_view(cut, np.eye(4)) == pytest.approx(expected)
    lifted = np.eye(4)
    lifted[2, 3] = half * CHECK_SPACING_MM
    expected = template.mask[:, :, :half].sum() / template.mask.sum()
    assert quality._outside_view(whole, lifted) == pytest.approx(expected, abs=1e-3)


def test_empty_space_in_a_padded_head_is_outside_its_view() -> None:
    template = load_template(CHECK_SPACING_MM)
    place = located(np.zeros_like(load_template(TISSUE_SPACING_MM).intensity), "raw head")
    top = int(np.flatnonzero(template.mask.any(axis=(0, 1)))[-1]) - 4
    aslant = np.indices(template.mask.shape).sum(axis=0) > sum(template.mask.shape) // 2 + 15
    deep = template.distance_mm < -quality._EMPTY_DEPTH_MM
    for lost, told in (
        (aslant & False, 0),
        (np.arange(template.mask.shape[2]) >= top, template.mask[:, :, top:].sum()),
        (aslant, (aslant & deep).sum()),
    ):
        head = Volume(np.where(lost, 0, template.intensity + 1), template.affine)
        share = quality.measure(place, head)["outside_view"]
        assert share == pytest.approx(told / template.mask.sum())


@pytest.mark.parametrize("axis", range(3))
def test_a_plane_in_which_a_brain_ends_is_measured_by_its_cross_section(axis: int) -> None:
    radius, kept = 35, 21
    ball = np.linalg.norm(np.indices((75, 75, 75)) - 37.0, axis=0) <= radius
    thin, thick = (2.0, 1.0, 2.0), (4.0, 4.0, 4.0)
    assert quality._flat_cut(ball, thin) < 0.09
    cut, gap = np.moveaxis(ball.copy(), axis, 0), np.moveaxis(ball.copy(), axis, 0)
    cut[37 + kept + 1 :] = False
    gap[40] = False
    share = 1 - kept**2 / radius**2
    cut = np.moveaxis(cut, 0, axis)
    assert quality._flat_cut(cut, thin) == pytest.approx(share, abs=0.01)
    assert quality._flat_cut(cut, thick) == pytest.approx(share / 2, abs=0.01)
    assert quality._flat_cut(np.moveaxis(gap, 0, axis), thin) > 0.9
    assert quality._flat_cut(ball[:, :, : 37 + kept + 1], thin) == pytest.approx(share, abs=0.01)
    assert quality._flat_cut(np.zeros((3, 3, 3), bool), thin) == 0


def test_what_a_brain_lacks_is_told_of_its_worst_part() -> None:
    template, parts = load_template(CHECK_SPACING_MM), quality.load_parts()
    sizes = np.bincount(parts[parts >= 0])
    assert len(sizes) == 18 and 60 < sizes.min() * CHECK_SPACING_MM**3 / 1000 < 130
    assert (parts >= 0).sum() == (template.distance_mm < -4).sum()
    lost = (parts == 7) & (np.arange(parts.shape[2]) % 2 == 0)
    assert quality._missing_part(template.mask & ~lost) == pytest.approx(lost.sum() / sizes[7])
    assert quality._missing_part(template.mask) == 0 == 1 - quality._missing_part(parts < 0)


@pytest.mark.parametrize("axis", range(3))
def test_brightness_of_halves_is_told_by_white_matter(axis: int) -> None:
    data, mask = tissue_image()
    even = quality._measure_tissue(data, mask)
    assert even["asymmetry"] < 0.02 and even["unevenness"] < 0.1
    middle = np.median(np.argwhere(load_tissues()[0] > 0.9)[:, axis])
    brighter = np.indices(data.shape)[axis] > middle
    found = quality._measure_tissue(np.where(brighter, 1.3, 1) * data, mask)
    assert found["unevenness"] > FIXED["unevenness"]
    assert (found["asymmetry"] > FIXED["asymmetry"]) == (axis == 0)


@pytest.mark.parametrize("axis", range(3))
def test_a_mask_beside_the_brain_is_told_and_a_tight_or_loose_one_is_not(axis: int) -> None:
    template = load_template(TISSUE_SPACING_MM)
    brain = Volume(np.where(template.mask, template.intensity + 1, -1000), template.affine)

    def misfit(mask: np.ndarray) -> float:
        given = Volume(mask.astype(np.float32), template.affine)
        return quality._mask_misfit(brain, Placement("masked head", given, np.eye(4)))

    assert misfit(template.mask) == 0
    for turned in (ndimage.binary_erosion, ndimage.binary_dilation):
        assert misfit(turned(template.mask, iterations=2)) == 0
    lost = template.mask & ~np.roll(template.mask, 5, axis)
    assert misfit(np.roll(template.mask, 5, axis)) == pytest.approx(
        lost.sum() / template.mask.sum(), rel=0.02
    )
    assert misfit(np.roll(template.mask, 5, axis)) > FIXED["mask_misfit"]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_the_cut_is_the_section_on_the_face_over_the_largest(axis: int, end: int) -> None:
    mask = np.zeros((9, 10, 11), bool)
    mask[2:7, 2:7, 2:7] = True
    face = np.moveaxis(mask, axis, 0)
    face[end, 3:5, 3:5] = True
    assert quality._mask_at_border(mask) == pytest.approx(4 / 25)
    assert quality._mask_at_border(np.zeros((3, 3, 3), bool)) == 0


def test_a_brain_cut_at_the_border_is_measured() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    assert quality._mask_at_border(mask) == 0
    assert quality._mask_at_border(mask[:, :, 8:]) == 1


def with_sinus(brightness: float, half_width: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The tissue image with a tube between the hemispheres, just outside the brain."""
    data, mask = tissue_image()
    above = ndimage.binary_dilation(mask, iterations=3) & ~mask
    middle = round(-load_template(TISSUE_SPACING_MM).affine[0, 3] / TISSUE_SPACING_MM)
    tube = np.zeros_like(mask)
    tube[middle - half_width : middle + half_width + 1] = True
    data[tube & above & (np.indices(mask.shape)[2] > 40)] = 3 * brightness
    return data, mask


@pytest.mark.parametrize("brightness", [0.2, 0.6, 1.3, 2.0])
def test_the_sinus_is_as_bright_as_it_is(brightness: float) -> None:
    found = quality._measure_vessels(*with_sinus(brightness), "raw head")
    assert found["sinus_brightness"] == pytest.approx(max(brightness, 0.7), abs=0.25)


def test_the_sinus_is_measured_in_units_of_white_matter() -> None:
    data, mask = with_sinus(1.3)
    first = quality._measure_vessels(data, mask, "raw head")
    assert quality._measure_vessels(7 * data, mask, "raw head") == pytest.approx(first)


def test_bright_vessels_of_a_stripped_brain_are_counted() -> None:
    data, mask = tissue_image()
    chosen = np.random.default_rng(0).permutation(np.argwhere(mask))[: int(0.04 * mask.sum())]
    assert quality._measure_vessels(data, mask, "mni brain")["bright_share"] < 0.001
    data[tuple(chosen.T)] = 5.0
    found = quality._measure_vessels(data, mask, "extracted brain")
    assert found == {"bright_share": pytest.approx(0.04, abs=0.001)}


def test_without_white_matter_no_vessel_is_bright() -> None:
    data, mask = tissue_image()
    assert quality._measure_vessels(-data, mask, "raw head") == {}
    assert quality._measure_vessels(data, np.zeros_like(mask), "mni brain") == {}
