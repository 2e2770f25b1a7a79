"""Pictures of a report: planes with outline and template, the line of ages, the cohort."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brainage.evaluation.normative import Reference
from brainage.plotting.canvas import BLUE, GREY, INK, ORANGE
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.template import load_template
from brainage.report.findings import Findings
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

DPI = 200
# Where the planes cut, mm MNI: through ventricles, deep grey matter and brain stem.
CUT_MM = (4.0, -18.0, 10.0)
_TEMPLATE_MM = 2
# Letters at the left and the right of the sagittal, coronal and axial plane.
_SIDES = (("P", "A"), ("L", "R"), ("L", "R"))
_AGES_YEARS = (15.0, 95.0)


def draw_planes(findings: Findings) -> bytes:
    """Draw sagittal, coronal and axial planes with the brain's outline, the template below.

    A third row shows the attribution map, where there is one. The patient's left is on the left.

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
    cut = _cut_voxel(image.affine, image.data.shape)
    template = load_template(_TEMPLATE_MM)
    reference = resample_volume(
        Volume(template.intensity, template.affine), image.affine, image.data.shape
    )
    rows: list[tuple[str, FloatArray]] = [
        ("this scan", _brightness(image.data, mask)),
        ("template", reference / max(float(reference.max()), 1e-9)),
    ]
    if findings.attribution is not None:
        rows.append(("map", rows[0][1]))
    widths = [image.data.shape[axis] for axis in (1, 0, 0)]
    heights = [image.data.shape[axis] for axis in (2, 2, 1)]
    width_inches = 5.0
    height_inches = width_inches * len(rows) * max(heights) / sum(widths)
    figure = Figure(figsize=(width_inches, height_inches), facecolor="black")
    panels = figure.subplots(
        len(rows), 3, squeeze=False, gridspec_kw={"width_ratios": widths, "wspace": 0, "hspace": 0}
    )
    figure.subplots_adjust(0, 0, 1, 1)
    for row, (name, data) in enumerate(rows):
        for axis in range(3):
            _draw_plane(panels[row, axis], data, mask, cut, axis)
        panels[row, 0].text(
            0.02,
            0.97,
            name,
            color="white",
            fontsize=8,
            transform=panels[row, 0].transAxes,
            va="top",
        )
    if findings.attribution is not None:
        _draw_map(panels[2], findings, cut)
    return _to_png(figure)


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
    return _to_png(figure)


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
    return _to_png(figure)


def _range_of(ages: DoubleArray, predicted: DoubleArray, findings: Findings) -> tuple[float, float]:
    given = [findings.age_years, findings.predicted_age_years, *(findings.interval_years or ())]
    values = np.concatenate([ages, predicted, [value for value in given if value is not None]])
    return float(values.min()) - 3.0, float(values.max()) + 3.0


def _brightness(data: FloatArray, mask: BoolArray) -> FloatArray:
    inside = data[mask] if mask.any() else data
    bright = float(np.percentile(inside, 99.5)) if inside.size else 1.0
    scaled: FloatArray = data / max(1.05 * bright, 1e-9)
    return scaled


def _cut_voxel(affine: DoubleArray, shape: tuple[int, ...]) -> list[int]:
    index = np.linalg.inv(affine) @ np.array([*CUT_MM, 1.0])
    return [int(np.clip(round(at), 0, side - 1)) for at, side in zip(index, shape, strict=False)]


def _draw_plane(axes: Axes, data: FloatArray, mask: BoolArray, cut: list[int], axis: int) -> None:
    low, high = _SIDES[axis]
    plane = np.take(data, cut[axis], axis).T
    brain = np.take(mask, cut[axis], axis).T
    axes.imshow(plane, cmap="gray", vmin=0, vmax=1, origin="lower", interpolation="bicubic")
    if brain.any():
        axes.contour(brain.astype(np.float32), [0.5], colors=["#56B4E9"], linewidths=0.9)
    axes.set_axis_off()
    for x, letter in ((0.02, low), (0.94, high)):
        axes.text(x, 0.5, letter, color="#BBBBBB", fontsize=7, transform=axes.transAxes)


def _draw_map(panels: list[Axes], findings: Findings, cut: list[int]) -> None:
    """Overlay the map: red looks older, blue younger, faint where it is small."""
    assert findings.attribution is not None and findings.image is not None
    fine = resample_volume(
        findings.attribution.volume, findings.image.affine, findings.image.data.shape
    )
    limit = max(float(np.percentile(np.abs(findings.attribution.volume.data), 99.5)), 1e-9)
    drawn = None
    for axis, panel in enumerate(panels):
        values = np.take(fine, cut[axis], axis).T
        alpha = np.clip(np.abs(values) / limit, 0, 1) * 0.85
        drawn = panel.imshow(
            values, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=alpha, origin="lower",
            interpolation="bilinear",
        )  # fmt: skip
    last = panels[-1]
    if drawn is not None:
        bar = last.inset_axes((0.2, 0.035, 0.6, 0.025))
        last.figure.colorbar(drawn, cax=bar, orientation="horizontal", ticks=[])
        for x, text, side in ((-0.04, "younger", "right"), (1.04, "older", "left")):
            bar.text(
                x,
                0.5,
                text,
                color="white",
                fontsize=5,
                transform=bar.transAxes,
                ha=side,
                va="center",
            )


def _to_png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(
        stream, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return stream.getvalue()
