"""A person's volumes, in a table and on the curves of the model's healthy cohort."""

import numpy as np
from matplotlib.figure import Figure

from brainage.cohorts.cells import parse_sex
from brainage.evaluation.volume_curves import STRUCTURES, TISSUES, VolumeCurves
from brainage.plotting.canvas import BLUE, GREY, INK, ORANGE
from brainage.report.checks import Row
from brainage.report.doubts import is_unlike
from brainage.report.findings import Findings
from brainage.report.pictures import to_png

WORDS = {"grey": "Grey matter", "white": "White matter", "fluid": "Fluid"}
_TITLES = WORDS | {"ventricles": "Ventricles"}


def list_volumes(findings: Findings) -> tuple[Row, ...]:
    """Rows of the table: millilitres, share of the whole, and where that lies for age and sex."""
    volumes = findings.volumes_ml
    if not volumes:
        return ()
    rows = []
    for name in (name for name in STRUCTURES if name in volumes):
        share = _share(findings, name)
        text = f"{share:.1f} %, part of the fluid" if name == "ventricles" else f"{share:.0f} %"
        note = ", ".join(filter(None, [text, _place(findings, name)]))
        rows.append(Row(_TITLES[name], f"{volumes[name]:.0f} ml", note))
    return tuple(rows)


def curves_for(findings: Findings) -> tuple[VolumeCurves, float] | None:
    """Curves and age, where the model has curves and an age that they reach was given."""
    curves, age = findings.model.volume_curves, findings.age_years
    if curves is None or age is None or not findings.volumes_ml or not curves.knows(age):
        return None
    return curves, age


def draw_volumes(findings: Findings) -> bytes:
    """Draw each structure's share of the whole against age: centile curves, and this person.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ValueError
        If there are no curves, or they do not reach the age.
    """
    found = curves_for(findings)
    if found is None:
        raise ValueError("findings without an age or a model without curves have no such picture")
    curves, age = found
    shown = [name for name in STRUCTURES if name in findings.volumes_ml]
    figure = Figure(figsize=(7.1, 1.2), layout="constrained")
    ages = np.linspace(*curves.ages_years, 60)
    for axes, name in zip(figure.subplots(1, len(shown)), shown, strict=True):
        lines = curves.centiles(name, ages, parse_sex(findings.sex))
        axes.fill_between(ages, lines[0], lines[-1], color=BLUE, alpha=0.15, linewidth=0)
        axes.fill_between(ages, lines[1], lines[-2], color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(ages, lines[2], color=BLUE, linewidth=1)
        axes.plot(age, _share(findings, name), "D", color=ORANGE, ms=6, mec="white", mew=0.8)
        axes.set_title(_TITLES[name], fontsize=8, color=INK, pad=2)
        axes.tick_params(labelsize=6, colors=GREY, length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("age, years", fontsize=7, color=INK, labelpad=1)
    figure.axes[0].set_ylabel("% of the brain\nand its fluid", fontsize=7, color=INK)
    return to_png(figure)


def caption_volumes(findings: Findings, curves: VolumeCurves) -> str:
    """Say what the picture shows."""
    sex = {"F": "women", "M": "men"}.get(parse_sex(findings.sex), "women and men")
    return (
        f"Share of each volume against age: this person (orange) on the curves of healthy {sex} of "
        f"the model's cohorts ({curves.n} people of both sexes; line: median, bands: the middle 50 "
        "and 90 %). Of each volume, one in ten healthy people on their scanners lies outside, in "
        "the highest or lowest 5 %, and more than one in ten on other scanners."
    )


def _share(findings: Findings, name: str) -> float:
    """Percent of the three tissues together."""
    volumes = findings.volumes_ml
    return 100 * volumes[name] / sum(volumes[tissue] for tissue in TISSUES)


def _place(findings: Findings, name: str) -> str:
    found = curves_for(findings)
    if found is None or is_unlike(findings):  # no fair comparison: the curves are pale then
        return ""
    curves, age = found
    lines = curves.centiles(name, [age], parse_sex(findings.sex))[:, 0]
    share, (low, high) = _share(findings, name), (lines[0], lines[-1])
    if low <= share <= high:
        return "usual"
    return "lowest 5 %" if share < low else "highest 5 %"
