"""Quality gate: named measures of a placed scan, and a verdict on them.

Every measure is taken in MNI space on fixed grids, so that the verdict depends neither on the
network's grid nor on the scan's orientation. The limits come from reference cohorts by one rule
(`derive_limits`) and lie in ``limits.json`` beside this file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.locate import Kind, Located, mask_on
from brainage.preprocessing.mni import coarsen_volume, dice
from brainage.preprocessing.template import (
    CHECK_SPACING_MM,
    TISSUE_SPACING_MM,
    load_template,
    load_tissues,
)
from brainage.preprocessing.threads import one_thread
from brainage.types import BoolArray, DoubleArray, FloatArray, Verdict, Volume

# Kinds that go through the same steps share their limits.
GROUPS: dict[Kind, str] = {
    "raw head": "raw head",
    "masked head": "extracted brain",
    "extracted brain": "extracted brain",
    "mni brain": "mni brain",
    "prepared brain": "mni brain",
}
# Which side of a measure is bad, and what it means when it is.
MEANING: dict[str, tuple[str, str]] = {
    "template_correlation": ("low", "the brain does not look like the template"),
    "mask_overlap": ("low", "the brain's outline is not the template's"),
    "mask_litres": ("both", "the brain has an unusual volume"),
    "extracted_correlation": ("low", "the registration is doubtful"),
    "scale_largest": ("high", "the registration stretches"),
    "scale_smallest": ("low", "the registration shrinks"),
    "stretch_ratio": ("high", "the registration distorts"),
    "white_over_grey": ("low", "white matter is not brighter than grey: not T1-weighted"),
    "grey_over_fluid": ("low", "grey matter is not brighter than fluid: not T1-weighted"),
    "white_overlap": ("low", "white matter does not lie where the template's does"),
    "grey_overlap": ("low", "grey matter does not lie where the template's does"),
    "noise": ("high", "noise"),
    "sharpness": ("low", "blur, motion or thick slices"),
    "sharpness_balance": ("low", "one direction is blurred: motion or thick slices"),
    "ghost": ("high", "signal in the air around the head: motion or ghosts"),
    "outside_view": ("high", "part of the brain lies outside the field of view"),
    "mask_at_border": ("high", "the brain is cut at the edge of the image"),
    "rim_brightness": ("high", "the brain was stripped too tightly: its rim is cut"),
    "slice_mm": ("high", "thick slices"),
}
# Measures that tell a wrong place or contrast from a poor scan: far outside, they fail a scan.
DECISIVE = (
    "template_correlation",
    "mask_overlap",
    "extracted_correlation",
    "scale_largest",
    "scale_smallest",
    "white_over_grey",
    "grey_over_fluid",
)
# The reach of a measure is the distance from the reference's median to the percentile that leaves
# out this share on its bad side. Limits lie a number of reaches away, the same for all measures,
# such that a scan like the reference's breaks any of them with at most `LEFT_OUT_PERCENT`.
REACH_PERCENT = 2.5
LEFT_OUT_PERCENT = 4.0
RARE_SHARE = 0.8
# A scan fails where a decisive measure lies so many reaches from the median.
FAIL_REACHES = 5.0
# A slice thicker than the grid on which registration ends holds no detail of that grid; no
# cohort can tell this limit.
MAX_SLICE_MM = 4.0
# A file whose voxels are as coarse as this along every axis was resampled to a grid: how blurred
# it is tells of the grid (`slice_mm` does), not of the head.
COARSE_VOXEL_MM = 3.0

_AIR_MARGIN_MM = 10.0
_MIN_AIR_VOXELS = 1000
# Share of the brain's brightness from which something is head, not air.
_HEAD_SHARE = 0.25
_SHARPNESS = ("sharpness", "sharpness_balance")
_LIMITS_FILE = Path(__file__).with_name("limits.json")

Limits = dict[str, dict[str, dict[str, float]]]


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
        Names as in `MEANING`; what a kind of scan does not have is left out.
    """
    template = load_template(CHECK_SPACING_MM)
    # Networks on finer grids keep a finer scan, which must not change what is measured.
    located = replace(located, volume=coarsen_volume(located.volume, TISSUE_SPACING_MM / 2))
    data, mask = located.sample(template.affine, template.mask.shape)
    placement, brain = located.placement, located.placement.mask
    found = {
        "template_correlation": correlate(data, template.intensity, mask & template.mask),
        "mask_overlap": dice(mask, template.mask),
        "mask_litres": float(brain.data.sum() * abs(np.linalg.det(brain.affine[:3, :3])) / 1e6),
        "outside_view": _outside_view(volume, placement.to_mni),
        "mask_at_border": _mask_at_border(mask_on(brain, located.volume)),
        "slice_mm": max(volume.spacing_mm),
    }
    if located.alignment is not None:
        largest, _, smallest = located.alignment.scales
        found["extracted_correlation"] = located.alignment.correlation
        found["scale_largest"], found["scale_smallest"] = float(largest), float(smallest)
        found["stretch_ratio"] = float(largest / smallest)
    fine = load_template(TISSUE_SPACING_MM)
    found |= _measure_tissue(*located.sample(fine.affine, fine.mask.shape))
    if placement.kind == "raw head":
        # Its mask is ours, and ends at the skull.
        found.pop("rim_brightness", None)
    if placement.kind == "raw head" and located.head is not None and located.alignment is not None:
        to_head = located.alignment.to_scan @ placement.to_mni
        straight = Volume(brain.data, to_head @ brain.affine)
        found |= _measure_air(located.head, mask_on(straight, located.head))
    if min(volume.spacing_mm) >= COARSE_VOXEL_MM:
        found = {name: value for name, value in found.items() if name not in _SHARPNESS}
    return found


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
    inside = ndimage.binary_erosion(mask, iterations=2)
    slopes = np.array([np.abs(np.diff(data, axis=a, prepend=0))[inside].mean() for a in range(3)])
    return _overlap_tissue(data, mask) | {
        "white_over_grey": (means[0] - means[1]) / spread,
        "grey_over_fluid": (means[1] - means[2]) / spread,
        "noise": float(1.4826 * np.median(np.abs(residual - np.median(residual))) / spread),
        "rim_brightness": _rim_brightness(data, mask, means[0]),
        "sharpness": float(slopes.min() / spread),
        "sharpness_balance": float(slopes.min() / slopes.max()),
    }


def _rim_brightness(data: FloatArray, mask: BoolArray, white: float) -> float:
    """Compute the brightness of the outermost 2 mm of a brain, as a share of white matter's.

    Around an uncut brain lies fluid, which is dark; a strip that took cortex ends in tissue.
    """
    rim = mask & ~ndimage.binary_erosion(mask)
    return float(np.median(data[rim]) / white) if white > 0 else 0.0


def _overlap_tissue(data: FloatArray, mask: BoolArray) -> dict[str, float]:
    """Compute the Dice overlap of the scan's tissues (Otsu thresholds) with the template's."""
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


def _outside_view(volume: Volume, to_mni: DoubleArray) -> float:
    """Share of the template's brain that lies outside the scan."""
    template = load_template(CHECK_SPACING_MM)
    places = np.argwhere(template.mask) @ template.affine[:3, :3].T + template.affine[:3, 3]
    to_index = np.linalg.inv(to_mni @ volume.affine)
    index = places @ to_index[:3, :3].T + to_index[:3, 3]
    seen = ((index > -0.5) & (index < np.array(volume.data.shape) - 0.5)).all(axis=1)
    return float(1 - seen.mean())


def _mask_at_border(mask: BoolArray) -> float:
    """Compute the brain's largest cross-section on a face of the image, over its largest of all."""
    shares = []
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        shares.append(max(areas[0], areas[-1]) / max(areas.max(), 1))
    return float(max(shares))


def judge(
    measures: Mapping[str, float], kind: Kind, settings: PreprocessingConfig
) -> tuple[Verdict, tuple[str, ...]]:
    """Hold measures against the limits of their kind of scan.

    Returns
    -------
    verdict : {"ok", "flagged", "failed"}
        Failed where the correlation with the template is below the settings' smallest, or a
        measure in `DECISIVE` is `FAIL_REACHES` reaches from the median.
    reasons : tuple of str
        One clause for each broken limit, with what came and what was allowed; first those that
        fail the scan.
    """
    limits = load_limits()[GROUPS[kind]]
    failing, flagging = list[str](), list[str]()
    for name, value in measures.items():
        low, high = _bounds(limits.get(name, {}), "low", "high")
        if low <= value <= high:
            continue
        side = f"at least {low:.3g}" if value < low else f"at most {high:.3g}"
        least, most = _bounds(limits.get(name, {}), "fails_below", "fails_above")
        reasons = flagging if least <= value <= most else failing
        reasons.append(f"{MEANING[name][1]} ({name} {value:.3g}, expected {side})")
    correlation, smallest = measures["template_correlation"], settings.min_template_correlation
    # A correlation that is not a number is no correlation.
    if not correlation >= smallest:
        failing.insert(0, f"template_correlation {correlation:.2f} is below {smallest:g}")
    verdict: Verdict = "failed" if failing else "flagged" if flagging else "ok"
    return verdict, (*failing, *flagging)


MEANING_SIDES = tuple(
    (name, side)
    for name, (bad, _) in MEANING.items()
    for side in ("low", "high")
    if bad in (side, "both") and name != "slice_mm"
)
"""Each measure with each side of it that is bad."""


def derive_limits(measures: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Derive limits from the measures of a reference cohort, all of one kind.

    Each measure's reach runs from the median to the percentile that leaves out `REACH_PERCENT`
    on the side that `MEANING` calls bad; it follows skewed measures. A measure that is the same
    on most scans (a mask that touches the image's border) has no reach: its limit is the
    reference's extreme, and it takes no part in what follows. One factor stretches all reaches
    alike: many measures, each strict, would otherwise flag many good scans. Every scan of the
    reference is scored by the most reaches that any of its measures lies out, median and
    reaches being those of all *other* scans; the factor is the score of rank ceil((n + 1)(1 -
    share)), the quantile of conformal prediction (Vovk et al. 2005, doi:10.1007/b106715), which
    holds for small n as well: the percentile of the reference's own scores would be too small,
    for its scans made the limits.
    """
    scores = sorted(
        _score(scan, *_spread([*measures[:index], *measures[index + 1 :]]))
        for index, scan in enumerate(measures)
    )
    rank = int(np.ceil((len(scores) + 1) * (1 - LEFT_OUT_PERCENT / 100)))
    factor = scores[min(rank, len(scores)) - 1]
    medians, reaches = _spread(measures)
    limits: dict[str, dict[str, float]] = {name: {"median": at} for name, at in medians.items()}
    for name, side in MEANING_SIDES:
        values = [scan[name] for scan in measures if name in scan]
        if values and (name, side) not in reaches:
            limits[name][side] = min(values) if side == "low" else max(values)
    for (name, side), reach in reaches.items():
        limits[name][side] = medians[name] + factor * reach
        if name in DECISIVE:
            fails = "fails_below" if side == "low" else "fails_above"
            limits[name][fails] = medians[name] + max(FAIL_REACHES, factor) * reach
    limits["slice_mm"] = {"high": MAX_SLICE_MM}
    return limits


def _spread(
    measures: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Return the median of each measure, and its signed reach on each side that is bad."""
    medians, reaches = {}, {}
    for name in dict.fromkeys(name for scan in measures for name in scan if name != "slice_mm"):
        values = np.array([scan[name] for scan in measures if name in scan])
        medians[name] = float(np.median(values))
        if np.mean(values == medians[name]) > RARE_SHARE:
            continue
        for side, sign in (("low", -1.0), ("high", 1.0)):
            if MEANING[name][0] in (side, "both"):
                distances = sign * (values - medians[name])
                reaches[name, side] = sign * float(np.percentile(distances, 100 - REACH_PERCENT))
    return medians, reaches


def _score(
    scan: Mapping[str, float],
    medians: Mapping[str, float],
    reaches: Mapping[tuple[str, str], float],
) -> float:
    """Compute the most reaches that any measure of a scan lies from its median, on the bad side."""
    return max(
        (scan[name] - medians[name]) / reach for (name, _), reach in reaches.items() if name in scan
    )


@lru_cache(maxsize=1)
def load_limits() -> Limits:
    """Return limits of every group of kinds: group → measure → name of a bound → value."""
    limits: Limits = json.loads(_LIMITS_FILE.read_text(encoding="utf-8"))["limits"]
    return limits


@lru_cache(maxsize=1)
def limits_hash() -> str:
    """Compute SHA-256 of the limits: a verdict is only as old as they are."""
    return hashlib.sha256(_LIMITS_FILE.read_bytes()).hexdigest()


def _bounds(limit: Mapping[str, float], low: str, high: str) -> tuple[float, float]:
    return limit.get(low, -np.inf), limit.get(high, np.inf)
