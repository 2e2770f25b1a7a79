"""Checks of a scan with their normal ranges, and where this scan lies beside them."""

from dataclasses import dataclass

import numpy as np

from brainage.evaluation.ood import FLAG_PERCENTILE
from brainage.preprocessing.verdict import GROUPS, load_limits
from brainage.report.doubts import nearer_share
from brainage.report.findings import Findings

_SHOWN = ("template_correlation", "mask_overlap", "white_over_grey", "noise", "sharpness")
# As many as a printed page has room for beside all else.
_MOST_MEASURES = 22
_NAMES = {
    "template_correlation": "Agreement with the template",
    "mask_overlap": "Overlap of the brain's outline",
    "missing_part": "Share missing of a part of the brain",
    "mask_litres": "Volume of the brain mask, litres",
    "extracted_correlation": "Agreement of the placed brain",
    "scale_largest": "Largest stretch of the placement",
    "scale_smallest": "Smallest stretch of the placement",
    "stretch_ratio": "Distortion of the placement",
    "white_over_grey": "Contrast, white over grey matter",
    "grey_over_fluid": "Contrast, grey matter over fluid",
    "white_overlap": "White matter where the template's is",
    "grey_overlap": "Grey matter where the template's is",
    "noise": "Noise",
    "detail": "Detail",
    "sharpness": "Sharpness",
    "sharpness_balance": "Sharpness, worst over best direction",
    "ghost": "Signal in the air",
    "outside_view": "Share of the brain outside the image",
    "mask_at_border": "Brain at the image's edge",
    "flat_cut": "Flattest end of the brain",
    "rim_brightness": "Brightness of the brain's rim",
    "slice_mm": "Slice thickness, mm",
    "slice_jump": "Largest jump between slices",
    "slice_repeat": "Smallest change between slices",
    "asymmetry": "Brightness, left against right",
    "unevenness": "Brightness, half against half",
    "mask_misfit": "Misfit of the brain mask",
    "sinus_brightness": "Brightness of the venous sinus",
    "bright_share": "Share of bright vessels",
}
_KINDS = {
    "raw head": "whole head",
    "masked head": "whole head with a brain mask",
    "extracted brain": "brain without skull",
    "mni brain": "brain in standard space",
    "prepared brain": "brain prepared before",
}


@dataclass(frozen=True)
class Gauge:
    """Where a value lies beside its normal range, in shares of a bar from 0 to 1.

    Attributes
    ----------
    low, high : float
        Ends of the normal range.
    mark : float
        The value.
    """

    low: float
    high: float
    mark: float

    @property
    def is_normal(self) -> bool:
        """Whether the mark lies in the range."""
        return self.low <= self.mark <= self.high


@dataclass(frozen=True)
class Row:
    """One line of a table: what, how much, a remark, and a bar where there is a normal range."""

    name: str
    value: str
    note: str = ""
    gauge: Gauge | None = None


def list_checks(findings: Findings) -> tuple[Row, ...]:
    """List the checks that a reader wants to see, and all that are outside their range."""
    kind = _KINDS.get(findings.recognised, findings.recognised)
    rows = [Row("Taken for", kind)] if kind else []
    if findings.series:
        which, _, what = findings.series.partition(": ")
        rows.append(Row("Taken from", f"DICOM {which.lower()}", what))
    if findings.voxel_mm is not None:
        rows.append(Row("Voxels", " × ".join(f"{edge:.1f}" for edge in findings.voxel_mm) + " mm"))
    limits = load_limits().get(dict(GROUPS).get(findings.recognised, ""), {})  # type: ignore[call-overload]
    checked = [
        _check(name, value, limits.get(name, {})) for name, value in findings.measures.items()
    ]
    told = [
        row
        for name, row in zip(findings.measures, checked, strict=True)
        if name in _SHOWN or (row.gauge is not None and not row.gauge.is_normal)
    ]
    rows += told[:_MOST_MEASURES]
    if len(told) > _MOST_MEASURES:
        rows.append(Row("More such checks", f"{len(told) - _MOST_MEASURES}", "see the JSON file"))
    if findings.ood_percentile is not None:
        share = findings.ood_percentile / 100
        gauge = Gauge(0.0, FLAG_PERCENTILE / 100, share)
        note = f"normal: below {FLAG_PERCENTILE:.0f} %"
        rows.append(Row("Training scans that are more usual", nearer_share(findings), note, gauge))
    return tuple(rows)


def _check(name: str, value: float, limit: dict[str, float]) -> Row:
    low, high = limit.get("low"), limit.get("high")
    note = ""
    if low is not None and high is not None:
        note = f"normal: {low:.2f} to {high:.2f}"
    elif low is not None or high is not None:
        note = f"normal: at least {low:.2f}" if low is not None else f"normal: at most {high:.2f}"
    gauge = measure_gauge(value, low, high, limit.get("median"))
    return Row(_NAMES.get(name, name), f"{value:.2f}", note, gauge)


def measure_gauge(
    value: float, low: float | None, high: float | None, median: float | None
) -> Gauge | None:
    """Place a value on a bar that shows its normal range and as much beside it.

    A range with one end is shown from the middle of the usual values on, as far beyond the end.

    Examples
    --------
    >>> measure_gauge(0.5, 0.4, 0.6, None)
    Gauge(low=0.25, high=0.75, mark=0.5)
    >>> measure_gauge(9.0, None, 4.0, 2.0).mark
    1.0
    """
    if low is None and high is None:
        return None
    if low is not None and high is not None:
        start, width = low - (high - low) / 2, 2 * (high - low)
    elif high is not None:
        reach = high - (median if median is not None else high / 2)
        start, width = high - 2 * reach, 3 * reach
    else:
        assert low is not None
        reach = (median if median is not None else 2 * low) - low
        start, width = low - reach, 3 * reach
    if width <= 0:
        return None
    ends = [
        0.0 if low is None else (low - start) / width,
        1.0 if high is None else (high - start) / width,
    ]
    mark = float(np.clip((value - start) / width, 0.0, 1.0))
    return Gauge(round(ends[0], 3), round(ends[1], 3), round(mark, 3))
