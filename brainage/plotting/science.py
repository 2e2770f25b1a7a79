"""Pictures of groups, repeated and changed scans, and intervals: tables in, PNG files out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainage.evaluation.groups import GroupEffect
from brainage.evaluation.out_of_fold import PREDICTED, baseline_column
from brainage.evaluation.reliability import Reliability
from brainage.plotting.canvas import (
    BLUE,
    GREY,
    ORANGE,
    build_figure,
    draw_interval,
    save_figure,
)
from brainage.types import BoolArray, DoubleArray


def plot_groups(
    table: pd.DataFrame, cases: BoolArray, effect: GroupEffect, path: Path, *, name: str
) -> Path:
    """Draw the measure of cases and controls against age, with the adjusted difference above.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years` and the effect's measure.
    cases : numpy.ndarray of bool (N,)
        Who is a case.
    name : str
        What makes a case, for the legend.
    """
    caption = (
        f"adjusted difference {effect.difference:+.2f} "
        f"[95 % {effect.ci_low:+.2f} to {effect.ci_high:+.2f}], "
        f"AUC {effect.auc:.2f} [{effect.auc_ci_low:.2f} to {effect.auc_ci_high:.2f}]"
    )
    figure, (axes,) = build_figure((1, 1), (7.0, 4.8), effect.measure, caption, synthetic=False)
    for inside, label, color in ((~cases, "others", BLUE), (cases, name, ORANGE)):
        part = table[inside]
        axes.scatter(
            part["age_years"],
            part[effect.measure],
            s=18,
            color=color,
            alpha=0.65,
            linewidths=0,
            label=f"{label}, n = {int(inside.sum())}",
        )
    axes.set(xlabel="Chronological age (years)", ylabel=effect.measure)
    axes.legend(frameon=False)
    return save_figure(figure, path)


def plot_bland_altman(values: DoubleArray, result: Reliability, path: Path) -> Path:
    """Draw the difference of two scans against their mean, with bias and limits of agreement.

    Parameters
    ----------
    values : numpy.ndarray of float64 (N, 2)
        First and second scan of N people.
    """
    caption = (
        f"n = {result.n_subjects}, ICC(2,1) {result.icc:.3f} "
        f"[95 % {result.icc_ci_low:.3f} to {result.icc_ci_high:.3f}], "
        f"smallest detectable change {result.smallest_detectable_change:.1f}"
    )
    figure, (axes,) = build_figure((1, 1), (7.0, 4.8), result.measure, caption, synthetic=False)
    axes.scatter(values.mean(axis=1), values[:, 1] - values[:, 0], s=30, color=BLUE)
    axes.axhline(result.bias, color=ORANGE, linewidth=2, label=f"mean {result.bias:+.2f}")
    for bound in (result.agreement_low, result.agreement_high):
        axes.axhline(bound, color=GREY, linestyle="--", label=f"95 % limit {bound:+.2f}")
    axes.set(xlabel="Mean of both scans", ylabel="Second − first scan")
    axes.legend(frameon=False)
    return save_figure(figure, path)


def plot_coverage(coverage: pd.DataFrame, level: float, path: Path) -> Path:
    """Draw how often intervals hold the age, by subgroup.

    Parameters
    ----------
    coverage : pandas.DataFrame
        Result of `brainage.evaluation.conformal.coverage_table`.
    level : float
        What the intervals promise.
    """
    size = (7.0, 1.6 + 0.32 * len(coverage))
    width = float(coverage["mean_width_years"].iloc[0])
    caption = f"level {level:.0%}, mean width {width:.1f} years, bars: exact 95 % intervals"
    figure, (axes,) = build_figure((1, 1), size, "Coverage of intervals", caption, synthetic=False)
    for position, row in enumerate(coverage.to_dict("records")):
        low, high = row["coverage_ci_low"], row["coverage_ci_high"]
        draw_interval(axes, position, row["coverage"], low, high, color=BLUE, horizontal=True)
    axes.axvline(level, color=ORANGE, linestyle="--", linewidth=1.2)
    labels = [f"{r['group']} {r['value']} (n {r['n']})" for r in coverage.to_dict("records")]
    axes.set_yticks(np.arange(len(coverage)), labels)
    axes.set(xlabel="Share of ages inside the interval", xlim=(0, 1.02))
    axes.invert_yaxis()
    return save_figure(figure, path)


def plot_robustness(rows: pd.DataFrame, path: Path, *, synthetic: bool) -> Path:
    """Draw the change of every predicted age under every perturbation, one panel a kind of scan.

    Parameters
    ----------
    rows : pandas.DataFrame
        `input`, `perturbation`, `change_years` (NaN where the scan failed) and `verdict`.
    """
    kinds, names = list(rows["input"].unique()), list(rows["perturbation"].unique())
    size = (2.5 + 4.5 * len(kinds), 1.8 + 0.2 * len(names))
    title = "Change of the predicted age"
    caption = "a dot is a scan: blue ok, orange flagged; at the right how many failed"
    figure, panels = build_figure((1, len(kinds)), size, title, caption, synthetic=synthetic)
    farthest = max(2.0, 1.2 * float(rows["change_years"].abs().max()))
    for axes, kind in zip(panels, kinds, strict=True):
        part = rows[rows["input"] == kind]
        colors = part["verdict"].map({"ok": BLUE, "flagged": ORANGE, "failed": GREY})
        places = part["perturbation"].map(names.index)
        axes.scatter(part["change_years"], places, s=14, color=colors, alpha=0.6)
        failed = places[part["verdict"] == "failed"].value_counts()
        for place, count in failed.items():
            axes.annotate(
                f"{count}", (1.01, place), xycoords=("axes fraction", "data"), va="center"
            )
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_xscale("symlog", linthresh=1)
        ticks = [tick for tick in (-30, -10, -3, -1, 0, 1, 3, 10, 30) if abs(tick) < farthest]
        axes.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
        axes.set(title=kind, xlabel="Change (years)", xlim=(-farthest, farthest))
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
    return save_figure(figure, path)


def plot_versus(table: pd.DataFrame, names: Sequence[str], path: Path) -> Path:
    """Draw predicted against true age of the same scans, a panel a model.

    Parameters
    ----------
    table : pandas.DataFrame
        `age_years`, `predicted_age_years` and `{name}_predicted_age_years`.
    names : sequence of str
        Of the other models.
    """
    columns = {"this model": PREDICTED} | {name: baseline_column(name) for name in names}
    size, caption = (3.6 * len(columns), 4.4), f"n = {len(table)}, the same scans in each panel"
    figure, panels = build_figure(
        (1, len(columns)), size, "Predicted and true age", caption, synthetic=False
    )
    ages = table["age_years"]
    every = pd.concat([ages, *(table[column] for column in columns.values())])
    ends = [float(every.min()) - 2, float(every.max()) + 2]
    for axes, (name, column) in zip(panels, columns.items(), strict=True):
        axes.plot(ends, ends, color=GREY, linewidth=1)
        axes.scatter(ages, table[column], s=14, color=BLUE, alpha=0.65, linewidths=0)
        error = float((table[column] - ages).abs().mean())
        axes.set(xlim=ends, ylim=ends, xlabel="True age (years)", title=f"{name}: MAE {error:.2f}")
        axes.set_aspect("equal")
    panels[0].set_ylabel("Predicted age (years)")
    return save_figure(figure, path)
