"""Quality gate: named measures of a placed scan, which `brainage.preprocessing.verdict` judges.

Every measure is taken in MNI space on fixed grids, so that the verdict depends neither on the
network's grid nor on the scan's orientation.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainage.preprocessing.background import clear_background, find_empty
from brainage.preprocessing.head import correct_bias, scale_brightness
from brainage.preprocessing.locate import Kind, Located, Placement, mask_on
from brainage.preprocessing.mni import coarsen_volume, dice, find_foreground, is_brain_extracted
from brainage.preprocessing.skull import find_brain_in_skull
from brainage.preprocessing.slices import measure_slices
from brainage.preprocessing.template import (
    CHECK_SPACING_MM,
    TISSUE_SPACING_MM,
    load_template,
    load_tissues,
)
from brainage.preprocessing.threads import one_thread
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

# A file whose voxels are as coarse as this along every axis was resampled to a grid: how blurred
# it is tells of the grid (`slice_mm` does), not of the head.
COARSE_VOXEL_MM = 3.0

_AIR_MARGIN_MM = 10.0
_MIN_AIR_VOXELS = 1000
# Share of the brain's brightness from which something is head, not air.
_HEAD_SHARE = 0.25
# Where the superior sagittal sinus runs: around the template's outline, in the middle.
_SINUS_HALF_WIDTH_MM, _SINUS_DEPTH_MM, _SINUS_HEIGHT_MM = 4.0, 4.0, 8.0
# A voxel of the brain is bright from so many times the step from fluid to white matter.
_BRIGHT = 1.4
# Depth of voxel centres of 2 mm: the outermost ones, and the third ones from outside.
_RIM_MM, _DEEPER_MM = 2.5, (4.5, 6.5)
_OF_STRIPS = ("rim_brightness", "missing_part")
# They tell of the field that N4 has left.
_OF_FIELDS = ("asymmetry", "unevenness")
_FINE = (
    "detail",
    "sharpness",
    "sharpness_balance",
    "rim_brightness",
    "slice_jump",
    "slice_repeat",
)
# Depth under the template's outline to which bone may reach that was set to 0 with the air: it
# hangs together with it through the ears.
_EMPTY_DEPTH_MM = 8.0
# Into how many parts each axis cuts the template's brain, and how deep it begins.
_PARTS, _PARTS_DEPTH_MM = (2, 3, 3), 4.0
# Slices up to this thick count in full where a brain ends, and what may be left beside its end, as
# a share of its largest cross-section.
_THIN_SLICE_MM, _LEFT_BESIDE = 2.0, 0.01


@one_thread()
def measure(located: Located, volume: Volume) -> dict[str, float]:
    """Measure a scan that has been placed in MNI space.

    Parameters
    ----------
    located : Located
    volume : Volume
        The scan as it was read.

    Returns
    -------
    dict of str to float
        Names as in `verdict.MEANING`; what a kind of scan does not have is left out.
    """
    template = load_template(CHECK_SPACING_MM)
    # Networks on finer grids keep a finer scan, which must not change what is measured.
    located = replace(located, volume=coarsen_volume(located.volume, TISSUE_SPACING_MM / 2))
    data, mask = located.sample(template.affine, template.mask.shape)
    placement, brain = located.placement, located.placement.mask
    in_scan = mask_on(brain, located.volume)
    found = {
        "template_correlation": correlate(data, template.intensity, mask & template.mask),
        "mask_overlap": dice(mask, template.mask),
        "missing_part": _missing_part(mask),
        "mask_litres": float(brain.data.sum() * abs(np.linalg.det(brain.affine[:3, :3])) / 1e6),
        "outside_view": _outside_view(
            volume, placement.to_mni, of_head=placement.kind == "raw head"
        ),
        "mask_at_border": _mask_at_border(in_scan),
        "slice_mm": max(volume.spacing_mm),
    }
    if located.alignment is not None:
        largest, _, smallest = located.alignment.scales
        found["extracted_correlation"] = located.alignment.correlation
        found["scale_largest"], found["scale_smallest"] = float(largest), float(smallest)
        found["stretch_ratio"] = float(largest / smallest)
    fine = load_template(TISSUE_SPACING_MM)
    data, mask = located.sample(fine.affine, fine.mask.shape)
    found |= _measure_tissue(data, mask) | _measure_vessels(data, mask, placement.kind)
    found |= measure_slices(located.volume.data, in_scan)
    if placement.kind == "masked head":
        found["mask_misfit"] = _mask_misfit(volume, placement)
    if placement.kind in ("extracted brain", "masked head"):
        # The box of MNI space cuts many a cerebellum: `mask_at_border` knows how deep.
        found["flat_cut"] = _flat_cut(in_scan, located.volume.spacing_mm)
    if placement.kind == "raw head" and located.head is not None and located.alignment is not None:
        to_head = located.alignment.to_scan @ placement.to_mni
        straight = Volume(brain.data, to_head @ brain.affine)
        found |= _measure_air(located.head, mask_on(straight, located.head))
    left_out = (
        # A head's mask is ours, and ends at the skull.
        *(_OF_STRIPS if placement.kind == "raw head" else ()),
        *(_OF_FIELDS if placement.bias is None else ()),
        *(_FINE if min(volume.spacing_mm) >= COARSE_VOXEL_MM else ()),
    )
    return {name: value for name, value in found.items() if name not in left_out}


def correlate(first: FloatArray, second: FloatArray, mask: BoolArray) -> float:
    """Compute Pearson's correlation inside a mask; -1 where it is not defined."""
    if mask.sum() < 2 or np.ptp(first[mask]) == 0:
        return -1.0
    return float(np.corrcoef(first[mask], second[mask])[0, 1])


def _measure_tissue(data: FloatArray, mask: BoolArray) -> dict[str, float]:
    """Compute contrast, noise and sharpness of the brain, in units of its standard deviation."""
    white_share, grey_share = load_tissues()
    white, grey = mask & (white_share > 0.9), mask & (grey_share > 0.7)
    fluid = mask & load_template(TISSUE_SPACING_MM).mask & (white_share + grey_share < 0.2)
    spread = float(data[mask].std()) if mask.any() else 0.0
    if spread == 0 or min(white.sum(), grey.sum(), fluid.sum()) < 100:
        return {"white_over_grey": -1.0, "grey_over_fluid": -1.0}
    means = [float(np.median(data[tissue])) for tissue in (white, grey, fluid)]
    # What the six neighbours do not predict is noise; the factor makes it the noise's deviation.
    kernel = ndimage.generate_binary_structure(3, 1).astype(np.float32) / 6
    kernel[1, 1, 1] = 0
    residual = (data - ndimage.convolve(data, kernel))[white] * np.sqrt(6 / 7)
    # Where tissue has the value of the background, as in z-scored files, the mask has gaps: eroded,
    # they would leave the inside of white matter alone.
    inside = ndimage.binary_erosion(ndimage.binary_closing(mask), iterations=2)
    slopes = np.array([np.abs(np.diff(data, axis=a, prepend=0))[inside].mean() for a in range(3)])
    return (
        _overlap_tissue(data, mask)
        | _measure_evenness(data, white, spread)
        | {
            "white_over_grey": (means[0] - means[1]) / spread,
            "grey_over_fluid": (means[1] - means[2]) / spread,
            "noise": float(1.4826 * np.median(np.abs(residual - np.median(residual))) / spread),
            "rim_brightness": _rim_brightness(data, mask),
            "detail": float(slopes.max() / spread),
            "sharpness": float(slopes.min() / spread),
            "sharpness_balance": float(slopes.min() / slopes.max()),
        }
    )


def _measure_evenness(data: FloatArray, white: BoolArray, spread: float) -> dict[str, float]:
    """Compute how white matter's brightness differs between halves, in units of the spread.

    Anatomy and coils leave left and right alike; other halves differ by nature.
    """
    values, halves = data[white], []
    for along in np.argwhere(white).T:
        far = along > np.median(along)
        halves.append(abs(float(np.median(values[far]) - np.median(values[~far]))) / spread)
    return {"asymmetry": halves[0], "unevenness": max(halves)}


def _rim_brightness(data: FloatArray, mask: BoolArray) -> float:
    """Compute the brightness of the darker part of a brain's rim, as a share of what lies deeper.

    That is the lower quartile of the outermost 2 mm over the median from 4 to 6 mm of depth. Around
    an uncut brain lies fluid, which is dark; a strip that took cortex ends in tissue.
    """
    depth_mm = TISSUE_SPACING_MM * ndimage.distance_transform_edt(mask)
    rim = data[mask & (depth_mm <= _RIM_MM)]
    deeper = data[(depth_mm > _DEEPER_MM[0]) & (depth_mm <= _DEEPER_MM[1])]
    level = float(np.median(deeper)) if deeper.size else 0.0
    return float(np.percentile(rim, 25)) / level if level > 0 else 0.0


def _overlap_tissue(data: FloatArray, mask: BoolArray) -> dict[str, float]:
    """Compute the Dice overlap of the scan's tissues (Otsu thresholds) with the template's."""
    import SimpleITK as sitk

    values = data[mask]
    values = values.clip(*np.percentile(values, (0.5, 99.5)))
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(2)
    otsu.Execute(sitk.GetImageFromArray(values.reshape(1, 1, -1)))
    dark, bright = otsu.GetThresholds()
    white_share, grey_share = load_tissues()
    is_grey = (grey_share > white_share) & (white_share + grey_share > 0.5)
    return {
        "white_overlap": dice(mask & (data > bright), white_share > 0.5),
        "grey_overlap": dice(mask & (data > dark) & (data <= bright), is_grey),
    }


def _measure_vessels(data: FloatArray, mask: BoolArray, kind: Kind) -> dict[str, float]:
    """Compute how bright vessels are, over white matter: a contrast agent makes them brighter.

    In a whole head that is the brightest place between the hemispheres under the skull, where the
    sagittal sinus runs, the median over its course; smoothed first, for placement is not exact.
    Stripping leaves little of the sinus: there, the share of the brain that lies by 40 % farther
    above its 2nd percentile than the 85th, which is white matter even where placement is poor.
    """
    white = mask & (load_tissues()[0] > 0.9)
    level = float(np.median(data[white])) if white.any() else 0.0
    if level <= 0:
        return {}
    if kind != "raw head":
        dark, level = np.percentile(data[mask], (2, 85))
        return {"bright_share": float(np.mean(data[mask] - dark > _BRIGHT * (level - dark)))}
    course = load_sinus_course()
    smooth = np.where(course, ndimage.uniform_filter(data, 3), -np.inf)
    brightest = smooth.max(axis=(0, 2))[course.any(axis=(0, 2))]
    return {"sinus_brightness": float(np.median(brightest) / level)}


@lru_cache(maxsize=1)
def load_sinus_course() -> BoolArray:
    """Load the voxels of the tissue grid where the superior sagittal sinus may run."""
    template = load_template(TISSUE_SPACING_MM)
    rows = np.ogrid[tuple(map(slice, template.mask.shape))]
    # The template's axes are those of MNI space, so that each coordinate follows one of them.
    x, y, z = (template.affine[a, a] * row + template.affine[a, 3] for a, row in enumerate(rows))
    outwards_mm = template.distance_mm
    near = (-outwards_mm <= _SINUS_DEPTH_MM) & (outwards_mm <= _SINUS_HEIGHT_MM)
    course: BoolArray = (np.abs(x) <= _SINUS_HALF_WIDTH_MM) & near & (y < 30) & (z > 20)
    return course


def _measure_air(head: Volume, brain: BoolArray) -> dict[str, float]:
    """Compute the signal in the air around the upper head, as a share of the brain's brightness.

    Looked at above the brain's middle (below it, neck and jaw come and go) and farther than 10 mm
    from the head. Smoothed first: ghosts are structured, noise averages out.
    """
    spacing_mm = head.spacing_mm[0]
    middle = int(ndimage.center_of_mass(brain)[2])
    upper, inside = head.data[:, :, middle:], brain[:, :, middle:]
    labels, _ = ndimage.label(upper > _HEAD_SHARE * np.median(upper[inside]))
    body = labels == np.bincount(labels[inside]).argmax()
    air = ndimage.distance_transform_edt(~body) * spacing_mm > _AIR_MARGIN_MM
    if air.sum() < _MIN_AIR_VOXELS:
        return {}
    smooth = ndimage.uniform_filter(upper, 3)[air]
    return {"ghost": float(np.percentile(smooth, 99) / np.median(upper[inside]))}


def _outside_view(volume: Volume, to_mni: DoubleArray, *, of_head: bool = False) -> float:
    """Share of the template's brain that lies outside the scan.

    What was put around a scan is no part of it: of a whole head, voxels of the background's value
    where they fill slices, or lie deep in the template's brain.
    """
    template = load_template(CHECK_SPACING_MM)
    places = np.argwhere(template.mask) @ template.affine[:3, :3].T + template.affine[:3, 3]
    to_index = np.linalg.inv(to_mni @ volume.affine)
    index = places @ to_index[:3, :3].T + to_index[:3, 3]
    seen = ((index > -0.5) & (index < np.array(volume.data.shape) - 0.5)).all(axis=1)
    if of_head:
        step = np.maximum(1, TISSUE_SPACING_MM // np.array(volume.spacing_mm)).astype(int)
        empty = find_empty(volume.data[tuple(slice(None, None, size) for size in step)])
        for axis, size in enumerate(step):
            others = tuple(other for other in range(3) if other != axis)
            filled = size * np.flatnonzero(~empty.all(axis=others))
            seen &= np.abs(index[:, axis] - filled[[0, -1]].mean()) < np.ptp(filled) / 2 + size / 2
        deep = seen & (template.distance_mm[template.mask] < -_EMPTY_DEPTH_MM)
        nearest = np.minimum(np.rint(index[deep] / step).astype(int), np.array(empty.shape) - 1)
        seen[deep] = ~empty[tuple(nearest.T)]
    return float(1 - seen.mean())


@lru_cache(maxsize=1)
def load_parts() -> NDArray[np.int64]:
    """Load which part of the template's brain a voxel of 4 mm lies in; -1 outside and at its rim.

    Along each axis the ends are quantiles: parts of about 90 mL.
    """
    template = load_template(CHECK_SPACING_MM)
    inside = template.distance_mm < -_PARTS_DEPTH_MM
    places = np.argwhere(inside)
    part = np.zeros(len(places), np.int64)
    for along, count in zip(places.T, _PARTS, strict=True):
        part = part * count + np.digitize(along, np.quantile(along, np.arange(1, count) / count))
    parts = np.full(inside.shape, -1)
    parts[inside] = part
    return parts


def _missing_part(mask: BoolArray) -> float:
    """Compute the share that a brain lacks of a part of the template's, where it lacks most."""
    parts = load_parts()
    sizes = np.bincount(parts[parts >= 0])
    held = np.bincount(parts[(parts >= 0) & mask], minlength=len(sizes))
    return float(1 - (held / sizes).min())


def _mask_misfit(volume: Volume, placement: Placement) -> float:
    """Compute how far a mask that was given with a scan lies from where the brain is.

    That is the geometric mean of what it lacks of the brain and of what it holds beside it, as
    shares of the brain, which is the inside of the skull or what a strip has left. A mask that is
    tight or loose does one of the two, one that lies elsewhere both.
    """
    volume = coarsen_volume(clear_background(volume), TISSUE_SPACING_MM / 2)
    foreground = find_foreground(volume, "")
    if is_brain_extracted(foreground):
        brain = foreground.mask
    else:
        head = scale_brightness(volume, "")
        head = correct_bias(head, placement.bias) if placement.bias else head
        brain = mask_on(find_brain_in_skull(head, placement.to_mni), volume)
    given = mask_on(placement.mask, volume)
    lacking, beside = np.sum(brain & ~given), np.sum(given & ~brain)
    return float(np.sqrt(lacking * beside) / max(brain.sum(), 1))


def _mask_at_border(mask: BoolArray) -> float:
    """Compute the brain's largest cross-section on a face of the image, over its largest of all."""
    shares = []
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        shares.append(max(areas[0], areas[-1]) / max(areas.max(), 1))
    return float(max(shares))


def _flat_cut(mask: BoolArray, spacing_mm: tuple[float, ...]) -> float:
    """Compute the largest cross-section with which a brain ends, over the largest of all.

    A whole brain ends in points and caps; one that was cut by the field of view, or has empty
    slices, in planes, whatever was put around it afterwards. Beside an end hardly anything is left;
    ends of thick slices count in proportion.
    """
    cuts = []
    for axis, thickness_mm in enumerate(spacing_mm):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        shares = np.pad(areas / max(areas.max(), 1), 1)
        beside = np.minimum(shares[1:], shares[:-1])
        steps = np.abs(np.diff(shares))[beside <= _LEFT_BESIDE]
        cuts.append(steps.max() * min(1.0, _THIN_SLICE_MM / thickness_mm))
    return float(max(cuts))
