"""Judge a scan by its measures: limits of each kind of scan, and what breaks them.

The limits come from reference cohorts by one rule (`derive_limits`) and lie in ``limits.json``
beside this file; ``python -m pipelines.release.limits`` makes it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.preprocessing.locate import Kind
from brainage.types import Verdict

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
    "missing_part": ("high", "part of the brain is missing"),
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
    "detail": ("low", "no detail in any direction: blur, or no MR image"),
    "sharpness": ("low", "blur, motion or thick slices"),
    "sharpness_balance": ("low", "one direction is blurred: motion or thick slices"),
    "ghost": ("high", "signal in the air around the head: motion or ghosts"),
    "outside_view": ("high", "part of the brain lies outside the field of view"),
    "mask_at_border": ("high", "the brain is cut at the edge of the image"),
    "flat_cut": ("high", "the brain ends in a plane: part of it is missing, or slices are empty"),
    "rim_brightness": ("high", "the brain was stripped too tightly: its rim is cut"),
    "slice_mm": ("high", "thick slices"),
    "slice_jump": ("high", "slices differ from those beside them: a step of brightness or a gap"),
    "slice_repeat": ("low", "slices repeat those beside them"),
    "asymmetry": ("high", "one side is brighter than the other"),
    "unevenness": ("high", "brightness changes across the brain"),
    "mask_misfit": ("high", "the brain mask does not lie where the brain is"),
    "sinus_brightness": ("high", "the venous sinus is bright: contrast agent"),
    "bright_share": ("high", "bright vessels or remains of the skull: contrast agent"),
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
    "white_overlap",
    "grey_overlap",
    "detail",
)
# In a T1 scan these are above 0, whatever the reference says.
CONTRASTS = ("white_over_grey", "grey_over_fluid")
# The reach of a measure is the distance from the reference's median to the percentile that leaves
# out this share on its bad side. Limits lie a number of reaches away, the same for all measures,
# such that a scan like the reference's breaks any of them with at most `LEFT_OUT_PERCENT`.
REACH_PERCENT = 2.5
LEFT_OUT_PERCENT = 4.0
RARE_SHARE = 0.8
# A scan fails where a decisive measure lies so many reaches from the median.
FAIL_REACHES = 5.0
# A scan fails where all measures together (`join_measures`) lie as far out as five at their limits,
# a whole head as nine: it has more measures, and scanners that are not in the reference differ
# more. Of the reference none does; poor T1 scans seldom do, and other images mostly.
JOINT = "joint"
FAIL_JOINT, FAIL_JOINT_OF_HEADS = 2.2, 3.05
# These say what part of a head is seen and how thick its slices are, not whether it is one.
_NOT_JOINED = ("outside_view", "mask_at_border", "sharpness", "sharpness_balance")
# One measure alone, however far out, is too little: noise, say, fails no scan.
_MOST_OF_ONE = 2.0
# Limits that no reference of ordinary scans can tell. A slice thicker than the grid on which
# registration ends holds no detail of that grid. Without contrast agent the sinus is darker than
# white matter; stripped brains keep bright vessels and some skull all the same. The rim of brains
# as their mask or publisher left them has 0.14 to 0.37 of the brightness below it; cut by 2 mm more
# it has 0.38 to 0.50. Whole brains end in slices of 2 mm with 0.05 of their largest cross-section,
# at most 0.097 of 92; with 10 mm cut off, with 0.08 (at the bottom) to 0.3. Of 358 whole brains one
# lacks more than a third of any eighteenth of the template's (0.38); without a cerebellum or a
# temporal pole they lack 0.41 to 0.61 of one. Slices of 358 scans differ by at most 1.5 times, and
# at least half, of what slices around them do; at a step of brightness by 30 % by 1.6 to 3.1 times,
# but for few. White matter of one side is at most 0.1 of the brain's deviation brighter than that
# of the other, and 0.33 in one of them, of other halves 0.42; after steps and ramps of brightness
# from left to right 0.24 to 0.78. Masks of nine heads at the outline, 2 to 4 mm inside or outside
# it, or mirrored from left to right have a misfit of at most 0.06; 10 mm beside it, of at least
# 0.095.
FIXED = {
    "slice_mm": 4.0,
    "sinus_brightness": 1.0,
    "bright_share": 0.03,
    "rim_brightness": 0.38,
    "flat_cut": 0.1,
    "missing_part": 0.35,
    "slice_jump": 1.6,
    "slice_repeat": 0.25,
    "asymmetry": 0.2,
    "unevenness": 0.4,
    "mask_misfit": 0.08,
}

LIMITS_FILE = Path(__file__).with_name("limits.json")

Limits = dict[str, dict[str, float]]


def judge(
    measures: Mapping[str, float], kind: Kind, settings: PreprocessingConfig
) -> tuple[Verdict, tuple[str, ...]]:
    """Hold measures against the limits of their kind of scan.

    Returns
    -------
    verdict : {"ok", "flagged", "failed"}
        Failed where the correlation with the template is below the settings' smallest, a measure
        in `DECISIVE` lies far out, or all measures together do.
    reasons : tuple of str
        One clause for each broken limit, with what came and what was allowed; first those that
        fail the scan.
    """
    group = GROUPS[kind]
    verdict, reasons = judge_by(load_limits()[group], measures, joint_limit(group))
    correlation, smallest = measures["template_correlation"], settings.min_template_correlation
    # A correlation that is not a number is no correlation.
    if not correlation >= smallest:
        low = f"template_correlation {correlation:.2f} is below {smallest:g}"
        return "failed", (low, *reasons)
    return verdict, reasons


def joint_limit(group: str) -> float:
    """Return how far out all measures of a group of kinds may lie together."""
    return FAIL_JOINT_OF_HEADS if group == "raw head" else FAIL_JOINT


def judge_by(
    limits: Limits, measures: Mapping[str, float], most_joint: float = FAIL_JOINT
) -> tuple[Verdict, tuple[str, ...]]:
    """Hold measures against limits; see `judge`."""
    failing, flagging = list[str](), list[str]()
    for name, value in measures.items():
        low, high = _bounds(limits.get(name, {}), "low", "high")
        if low <= value <= high:
            continue
        side = f"at least {low:.3g}" if value < low else f"at most {high:.3g}"
        least, most = _bounds(limits[name], "fails_below", "fails_above")
        reasons = flagging if least <= value <= most else failing
        reasons.append(f"{MEANING[name][1]} ({name} {value:.3g}, expected {side})")
    joint = join_measures(limits, measures)
    if joint > most_joint:
        meaning = "too much is unusual at once for a T1-weighted head"
        failing.insert(0, f"{meaning} ({JOINT} {joint:.3g}, expected at most {most_joint:g})")
    verdict: Verdict = "failed" if failing else "flagged" if flagging else "ok"
    return verdict, (*failing, *flagging)


def join_measures(limits: Limits, measures: Mapping[str, float]) -> float:
    """Compute how far out all measures lie together.

    That is the length of the vector of their distances from the medians, on the sides that are
    bad, each divided by the distance of its limit and cut at 2. So 1 is one measure at its limit,
    and 2 four of them. Normal deviates of which only the bad half counts would give the square
    root of a chi-bar-square variable (Kudo 1963, doi:10.2307/2333900).
    """
    total = 0.0
    for name, value in measures.items():
        limit = limits.get(name, {})
        if name in _NOT_JOINED or "median" not in limit:
            continue
        away = [
            (value - limit["median"]) / (limit[side] - limit["median"])
            for side in ("low", "high")
            if limit.get(side, limit["median"]) != limit["median"]
        ]
        total += min(max([0.0, *away]), _MOST_OF_ONE) ** 2
    return float(np.sqrt(total))


MEANING_SIDES = tuple(
    (name, side)
    for name, (bad, _) in MEANING.items()
    for side in ("low", "high")
    if bad in (side, "both") and name not in FIXED
)
"""Each measure with each side of it that is bad."""


def derive_limits(measures: Sequence[Mapping[str, float]]) -> Limits:
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
    limits: Limits = {name: {"median": at} for name, at in medians.items()}
    for name, side in MEANING_SIDES:
        values = [scan[name] for scan in measures if name in scan]
        if values and (name, side) not in reaches:
            limits[name][side] = min(values) if side == "low" else max(values)
    for (name, side), reach in reaches.items():
        limits[name][side] = medians[name] + factor * reach
        if name in DECISIVE:
            fails = "fails_below" if side == "low" else "fails_above"
            limits[name][fails] = medians[name] + max(FAIL_REACHES, factor) * reach
        if name in CONTRASTS:
            for bound in ("low", "fails_below"):
                limits[name][bound] = max(limits[name][bound], 0.0)
    limits |= {name: {MEANING[name][0]: bound} for name, bound in FIXED.items()}
    return limits


def _spread(
    measures: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Return the median of each measure, and its signed reach on each side that is bad."""
    medians, reaches = {}, {}
    for name in dict.fromkeys(name for scan in measures for name in scan if name not in FIXED):
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
    away = (
        (scan[name] - medians[name]) / reach for (name, _), reach in reaches.items() if name in scan
    )
    return max(away, default=0.0)


@lru_cache(maxsize=1)
def load_limits() -> dict[str, Limits]:
    """Return limits of every group of kinds: group → measure → name of a bound → value."""
    limits: dict[str, Limits] = json.loads(LIMITS_FILE.read_text(encoding="utf-8"))["limits"]
    return limits


@lru_cache(maxsize=1)
def limits_hash() -> str:
    """Compute SHA-256 of the limits: a verdict is only as old as they are."""
    return hashlib.sha256(LIMITS_FILE.read_bytes()).hexdigest()


def _bounds(limit: Mapping[str, float], low: str, high: str) -> tuple[float, float]:
    return limit.get(low, -np.inf), limit.get(high, np.inf)
