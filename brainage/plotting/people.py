"""Pictures of people: the gap along their scans, and along a covariate."""

from pathlib import Path

import numpy as np
import pandas as pd

from brainage.evaluation.association import Adjusted, Association
from brainage.evaluation.longitudinal import GAP, GapChange
from brainage.plotting.canvas import BLUE, GREY, INK, ORANGE, build_figure, save_figure


def plot_change(
    scans: pd.DataFrame, people: pd.DataFrame, change: GapChange, path: Path, time: str
) -> Path:
    """Draw the gaps of each person along time, and each person's change beside its noise.

    Parameters
    ----------
    scans : pandas.DataFrame
        Result of `brainage.evaluation.longitudinal.repeated_people`.
    people : pandas.DataFrame
        Result of `brainage.evaluation.longitudinal.yearly_change`.
    time : str
        Column of `scans` with the time in years.
    """
    caption = (
        f"mean change {change.change_per_year:+.2f} years a year "
        f"[95 % {change.ci_low:+.2f} to {change.ci_high:+.2f}], {change.n_subjects} people, "
        f"{change.n_scans} scans"
    )
    figure, (lines, slopes) = build_figure(
        (1, 2), (11.0, 4.8), "Change of the brain-age gap", caption, synthetic=False
    )
    for _, part in scans.groupby("subject_id"):
        lines.plot(part[time], part[GAP], color=BLUE, alpha=0.45, linewidth=1, marker="o", ms=3)
    named = "Age at scan (years)" if time == "age_years" else f"{time} (years)"
    lines.axhline(0, color=GREY, linewidth=1)
    lines.set(xlabel=named, ylabel="Brain-age gap (years)")
    ordered = people.sort_values("gap_change_per_year").reset_index(drop=True)
    if "smallest_detectable_per_year" in ordered:
        limit = ordered["smallest_detectable_per_year"]
        slopes.vlines(
            ordered.index, -limit, limit, color=GREY, alpha=0.5, linewidth=2,
            label="smallest detectable change",
        )  # fmt: skip
    beyond = ordered.get("exceeds", pd.Series(False, index=ordered.index)).to_numpy(bool)
    colors = np.where(beyond, ORANGE, BLUE)
    slopes.scatter(ordered.index, ordered["gap_change_per_year"], s=16, color=colors, zorder=3)
    slopes.axhspan(change.ci_low, change.ci_high, color=INK, alpha=0.15, linewidth=0)
    slopes.axhline(change.change_per_year, color=INK, linewidth=1.2, label="mean, 95 % interval")
    slopes.set(xlabel="People, by their change", ylabel="Change of the gap (years a year)")
    slopes.set_xticks([])
    slopes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def plot_association(found: Association, adjusted: Adjusted, path: Path) -> Path:
    """Draw measure against covariate, both adjusted, with the line of the model."""
    caption = (
        f"{found.slope:+.3g} a unit [95 % {found.ci_low:+.3g} to {found.ci_high:+.3g}], "
        f"p {found.p:.2g}, n = {found.n}"
    )
    title = f"{found.measure} and {found.covariate}"
    figure, (axes,) = build_figure((1, 1), (7.0, 4.8), title, caption, synthetic=False)
    axes.scatter(adjusted.covariate, adjusted.measure, s=18, color=BLUE, alpha=0.65, linewidths=0)
    ends = np.array([adjusted.covariate.min(), adjusted.covariate.max()])
    axes.plot(ends, found.slope * ends, color=ORANGE, linewidth=2)
    beyond = f", beyond {found.adjusted_for}" if found.adjusted_for else ""
    axes.set(xlabel=f"{found.covariate}{beyond}", ylabel=f"{found.measure}{beyond}")
    return save_figure(figure, path)
