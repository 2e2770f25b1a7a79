"""Pictures of a report: planes with outline and template, the map, the line of ages, the cohort."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brainage.evaluation.normative import Reference
from brainage.plotting.canvas import BLUE, GREY, INK, ORANGE
from brainage.plotting.planes import (
    PLANES,
    RADIOLOGICAL,
    Cut,
    Orientation,
    cut_at,
    draw_outline,
    draw_overlay,
    draw_plane,
    frame_brain,
    map_limit,
)
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.template import load_template
from brainage.report.findings import Findings
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

DPI = 200
# Where planes cut, mm MNI: through temporal lobes, ventricles and deep grey matter, and above.
CUTS_MM = {2: (-16.0, 10.0, 30.0), 1: (-44.0, -18.0, 12.0), 0: (-26.0, 4.0, 26.0)}
_TEMPLATE_MM = 2
_MARGIN_MM = 6.0
_AGES_YEARS = (15.0, 95.0)
_TILE_INCHES = 1.5


def draw_planes(findings: Findings, orientation: Orientation = RADIOLOGICAL) -> bytes:
    """Draw three planes each way with the brain's outline, and one each of the template.

    Axial, coronal, sagittal from above to below, the template at the right. The brain fills the
    frame, unless the scan failed: then all is shown, for the outline may be wrong.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ValueError
        If the findings hold no image.
    """
    if findings.image is None or findings.mask is None:
        raise ValueError("findings without an image have no planes")
    image, mask = findings.image, findings.mask
    template = load_template(_TEMPLATE_MM)
    reference = resample_volume(
        Volume(template.intensity, template.affine), image.affine, image.data.shape
    )
    reference = reference / max(float(reference.max()), 1e-9)
    cuts = _choose_cuts(findings)
    figure, panels = _grid(cuts, 1, image.data.shape, 0.0)
    for row, line in enumerate(cuts):
        shown = [(_brightness(image.data, mask), cut) for cut in line]
        for panel, (data, cut) in zip(panels[row], [*shown, (reference, line[1])], strict=True):
            draw_plane(panel, data, cut, orientation)
            draw_outline(panel, mask, cut, orientation)
    panels[0][-1].text(
        0.03, 0.97, "template", color="white", fontsize=7, ha="left", va="top",
        transform=panels[0][-1].transAxes,
    )  # fmt: skip
    return to_png(figure)


def draw_map(findings: Findings, orientation: Orientation = RADIOLOGICAL) -> bytes:
    """Draw the map over the planes of `draw_planes`, with a scale in numbers.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ValueError
        If the findings hold no image or no map.
    """
    image, mask, attribution = findings.image, findings.mask, findings.attribution
    if image is None or mask is None or attribution is None:
        raise ValueError("findings without image and map have no picture of a map")
    fine = resample_volume(attribution.volume, image.affine, image.data.shape)
    limit = map_limit(attribution.volume.data)
    data = _brightness(image.data, mask)
    cuts = _choose_cuts(findings)
    figure, panels = _grid(cuts, 0, image.data.shape, _SCALE_INCHES)
    for row, line in enumerate(cuts):
        for panel, cut in zip(panels[row], line, strict=True):
            draw_plane(panel, data, cut, orientation)
            drawn = draw_overlay(panel, fine, cut, limit, orientation)
    _draw_scale(figure, drawn, limit, attribution.unit, attribution.legend)
    return to_png(figure)


_SCALE_INCHES = 0.62


def _draw_scale(
    figure: Figure, drawn: Any, limit: float, unit: str, legend: tuple[str, str]
) -> None:
    """Draw the scale of a map at the foot of a figure: numbers, unit, and what the ends mean."""
    inches = figure.get_size_inches()
    axes = figure.add_axes((0.3, 0.62 * _SCALE_INCHES / inches[1], 0.4, 0.09 / inches[1]))
    bar = figure.colorbar(drawn, cax=axes, orientation="horizontal", ticks=[-limit, 0, limit])
    bar.ax.set_xticklabels([f"−{limit:.2g}", "0", f"+{limit:.2g}"], color="white", fontsize=7)
    bar.ax.tick_params(color="white", length=2)
    bar.outline.set_edgecolor("white")
    bar.ax.set_xlabel(unit, color="white", fontsize=7, labelpad=1)
    for x, text, side in ((-0.04, legend[0], "right"), (1.04, legend[1], "left")):
        axes.text(
            x, 0.5, text, color="white", fontsize=7, transform=axes.transAxes, ha=side, va="center"
        )


def _choose_cuts(findings: Findings) -> list[list[Cut]]:
    """Choose planes by row: axial, coronal, sagittal."""
    image, mask = findings.image, findings.mask
    assert image is not None and mask is not None
    margin = round(_MARGIN_MM / image.spacing_mm[0])
    window = (slice(None),) * 3 if findings.verdict == "failed" else frame_brain(mask, margin)
    return [
        [
            Cut(axis, cut_at(place, axis, image.affine, image.data.shape), window)
            for place in CUTS_MM[axis]
        ]
        for axis in PLANES
    ]


def _grid(
    cuts: list[list[Cut]], more: int, shape: tuple[int, ...], foot_inches: float
) -> tuple[Figure, list[list[Axes]]]:
    """Make a black figure with a row of panels for each direction, as high as its planes are."""
    window = cuts[0][0].window
    sizes = [len(range(*part.indices(side))) for part, side in zip(window, shape, strict=True)]
    wide = {2: sizes[0], 1: sizes[0], 0: sizes[1]}
    high = {2: sizes[1], 1: sizes[2], 0: sizes[2]}
    columns = len(cuts[0]) + more
    scale = _TILE_INCHES / max(wide.values())
    heights = [high[line[0].axis] * scale for line in cuts]
    size = columns * _TILE_INCHES, sum(heights) + foot_inches
    figure = Figure(figsize=size, facecolor="black")
    top, panels = size[1], []
    for height in heights:
        top -= height
        panels.append(
            [
                figure.add_axes((number / columns, top / size[1], 1 / columns, height / size[1]))
                for number in range(columns)
            ]
        )
    return figure, panels


def draw_age_line(findings: Findings) -> bytes:
    """Draw predicted age, its interval, and the chronological age on one line of ages.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ValueError
        If there is no predicted age.
    """
    predicted = findings.predicted_age_years
    if predicted is None:
        raise ValueError("findings without a predicted age have no age line")
    figure = Figure(figsize=(7.1, 0.86))
    axes = figure.add_axes((0.015, 0.36, 0.97, 0.6))
    low, high = findings.interval_years or (predicted, predicted)
    given = [
        predicted,
        low,
        high,
        *([findings.age_years] if findings.age_years is not None else []),
    ]
    axes.set_xlim(min(_AGES_YEARS[0], *given) - 1, max(_AGES_YEARS[1], *given) + 1)
    axes.set_ylim(-1, 1)
    axes.axhline(0, color="#D0D7DE", linewidth=1, zorder=0)
    if findings.interval_years is not None:
        axes.plot(
            [low, high], [0, 0], color=ORANGE, linewidth=9, alpha=0.35, solid_capstyle="round"
        )
    axes.plot(predicted, 0, "o", color=ORANGE, markersize=9)
    axes.annotate("predicted", (predicted, 0), (0, 9), **_LABEL, color=ORANGE, va="bottom")
    if findings.age_years is not None:
        axes.plot(findings.age_years, 0, "D", color=BLUE, markersize=7)
        axes.annotate("age", (findings.age_years, 0), (0, -9), **_LABEL, color=BLUE, va="top")
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color("#D0D7DE")
    axes.set_yticks([])
    axes.tick_params(labelsize=7, colors=GREY, length=2)
    return to_png(figure)


_LABEL: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "center",
    "fontsize": 8,
    "weight": "bold",
}


def draw_cohort(findings: Findings, reference: Reference) -> bytes:
    """Draw the person on the scatter of the model's held-out cohort.

    Without a chronological age the predicted age is a line across.

    Returns
    -------
    bytes
        PNG.
    """
    predicted = findings.predicted_age_years
    figure = Figure(figsize=(3.1, 3.0), layout="constrained")
    axes = figure.subplots()
    ages = reference.age_years
    axes.plot(ages, reference.predicted_age_years, "o", color=GREY, alpha=0.45, ms=3.2, mew=0)
    bounds = _range_of(ages, reference.predicted_age_years, findings)
    axes.plot(bounds, bounds, color=INK, linewidth=0.8, linestyle="--")
    if predicted is not None:
        low, high = findings.interval_years or (predicted, predicted)
        if findings.age_years is None:
            axes.axhspan(low, high, color=ORANGE, alpha=0.18, linewidth=0)
            axes.axhline(predicted, color=ORANGE, linewidth=2)
        else:
            spread = [[predicted - low], [high - predicted]]
            axes.errorbar(
                findings.age_years, predicted, yerr=spread, fmt="D", color=ORANGE, ms=6,
                elinewidth=2, capsize=3, mec="white", mew=0.8, zorder=5,
            )  # fmt: skip
    axes.set(xlim=bounds, ylim=bounds, aspect="equal")
    axes.set_xlabel("age, years", fontsize=8, color=INK)
    axes.set_ylabel("predicted age, years", fontsize=8, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.grid(color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)
    return to_png(figure)


def _range_of(ages: DoubleArray, predicted: DoubleArray, findings: Findings) -> tuple[float, float]:
    given = [findings.age_years, findings.predicted_age_years, *(findings.interval_years or ())]
    values = np.concatenate([ages, predicted, [value for value in given if value is not None]])
    return float(values.min()) - 3.0, float(values.max()) + 3.0


def _brightness(data: FloatArray, mask: BoolArray) -> FloatArray:
    inside = data[mask] if mask.any() else data
    bright = float(np.percentile(inside, 99.5)) if inside.size else 1.0
    scaled: FloatArray = data / max(1.05 * bright, 1e-9)
    return scaled


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(
        stream, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return stream.getvalue()
