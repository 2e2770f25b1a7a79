"""Pictures of an evaluation: tables in, PNG files out.

Each function draws on its own Figure (no pyplot, no global state), writes the file atomically and
returns its path.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from brainage.errors import CohortError
from brainage.evaluation.comparison import REFERENCE
from brainage.evaluation.measures import check_columns
from brainage.evaluation.metrics import AGE_BANDS, Number, age_bands, age_metrics
from brainage.plotting.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    build_figure,
    draw_interval,
    save_figure,
)
from brainage.types import DoubleArray

AGE_COLUMNS = ("age_years", "predicted_age_years")
COMPARISON_PANELS = (
    ("mae_years", "mae_ci", "Test MAE (years)"),
    ("mae_difference_years", "mae_difference_ci", "Test MAE minus that of BP (years)"),
    ("seconds_per_epoch", "seconds_per_epoch", "Training time per epoch (s)"),
    ("seconds_to_target", "seconds_to_target", "Training time to BP's final\nvalidation MAE (s)"),
    ("peak_memory_mb", "peak_memory_mb", "Peak memory (MB)"),
)
MISSING = {"seconds_to_target": "not reached", "mae_difference_years": "no BP run to compare with"}


def plot_predicted_vs_true(
    table: pd.DataFrame, path: Path, *, title: str = "Predicted age", synthetic: bool = False
) -> Path:
    """Draw predicted against chronological age, with the line of perfect prediction.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, `predicted_age_years`, and where known `subject_id`.
    path : pathlib.Path
        PNG file to write; its folder is made.
    title : str
        First line above the picture.
    synthetic : bool
        Label the picture as made from phantoms.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    CohortError
        If a column is missing, the table is empty, or an age is not finite.
    """
    age, predicted, metrics = _ages(table)
    figure, (axes,) = build_figure(
        (1, 1), (6.0, 6.0), title, _caption(metrics), synthetic=synthetic
    )
    both = np.concatenate([age, predicted])
    margin = max(2.0, 0.04 * float(np.ptp(both)))
    limits = (float(both.min()) - margin, float(both.max()) + margin)
    axes.plot(limits, limits, color=GREY, linestyle="--", linewidth=1.2, label="perfect prediction")
    axes.scatter(age, predicted, s=_dot_size(age.size), color=BLUE, alpha=0.65, linewidths=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel="Chronological age (years)", ylabel="Predicted age (years)")
    axes.legend(loc="upper left", frameon=False)
    return save_figure(figure, path)


def plot_gap_vs_age(
    table: pd.DataFrame, path: Path, *, title: str = "Brain-age gap", synthetic: bool = False
) -> Path:
    """Draw the gap, predicted minus chronological age, against age, with its straight-line fit.

    Parameters, result and errors are those of `plot_predicted_vs_true`.
    """
    age, predicted, metrics = _ages(table)
    figure, (axes,) = build_figure(
        (1, 1), (7.0, 4.8), title, _caption(metrics), synthetic=synthetic
    )
    gap = predicted - age
    axes.axhline(0.0, color=GREY, linestyle="--", linewidth=1.2, label="no gap")
    axes.scatter(age, gap, s=_dot_size(age.size), color=BLUE, alpha=0.65, linewidths=0)
    slope, bias = metrics["gap_slope"], metrics["bias_years"]
    if slope is not None and bias is not None:
        ends = np.array([age.min(), age.max()])
        label = f"fit: mean gap {bias:+.2f} years, slope {slope:+.2f} years per year"
        axes.plot(
            ends,
            bias + slope * (ends - age.mean()),
            color=ORANGE,
            linewidth=2,
            label=label.replace("-", "−"),
        )
    limit = 1.25 * max(1.0, float(np.abs(gap).max()))
    axes.set(ylim=(-limit, limit))
    axes.set(xlabel="Chronological age (years)", ylabel="Predicted − chronological age (years)")
    axes.legend(loc="upper right", frameon=False)
    return save_figure(figure, path)


def plot_error_by_age_band(
    table: pd.DataFrame, path: Path, *, title: str = "Error by age band", synthetic: bool = False
) -> Path:
    """Draw the absolute errors and their mean with 95 % interval in each age band.

    Parameters, result and errors are those of `plot_predicted_vs_true`.
    """
    age, predicted, metrics = _ages(table)
    figure, (axes,) = build_figure(
        (1, 1), (7.0, 4.8), title, _caption(metrics), synthetic=synthetic
    )
    labels, error = age_bands(age), np.abs(predicted - age)
    present = [band for band in AGE_BANDS if (labels == band).any()]
    random = np.random.default_rng(0)
    for position, band in enumerate(present):
        inside = labels == band
        spots = position + random.uniform(-0.22, 0.22, int(inside.sum()))
        axes.scatter(spots, error[inside], s=12, color=GREY, alpha=0.5, linewidths=0)
        row = age_metrics(age[inside], predicted[inside], subject_ids=_subjects(table.loc[inside]))
        low, high = row["mae_ci_low"], row["mae_ci_high"]
        draw_interval(axes, position, float(error[inside].mean()), low, high, color=BLUE)
    axes.plot([], [], "o", color=BLUE, label="mean, 95 % interval over subjects")
    axes.plot([], [], "o", color=GREY, alpha=0.5, markersize=4, label="one scan")
    axes.set_xticks(
        range(len(present)), [f"{band}\nn = {(labels == band).sum()}" for band in present]
    )
    axes.set(xlabel="Chronological age (years)", ylabel="Absolute error (years)")
    axes.set_ylim(0, 1.18 * max(1.0, float(error.max())))
    axes.legend(loc="upper right", frameon=False, ncols=2)
    return save_figure(figure, path)


def plot_training_curves(
    history: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    title: str = "Training",
    synthetic: bool = False,
) -> Path:
    """Draw losses and validation scores over the epochs, for the network and for each block.

    Parameters
    ----------
    history : sequence of mapping
        One entry an epoch: `epoch`, and where known `train_loss`, `val_loss`, and of `mae_years` or
        `accuracy` the values `val_…` and `block_{k}_val_…`.
    path, title, synthetic
        As in `plot_predicted_vs_true`.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    CohortError
        If there are no epochs.
    """
    if not history:
        raise CohortError("training curves", "needs at least one epoch, got none.")
    table = pd.DataFrame([dict(row) for row in history])
    check_columns(table, ("epoch",), "training curves")
    table = table.sort_values("epoch")
    figure, (left, right) = build_figure(
        (1, 2), (10.0, 4.4), title, _training_caption(table), synthetic=synthetic
    )
    for name, label, color in (
        ("train_loss", "training", BLUE),
        ("val_loss", "validation", ORANGE),
    ):
        _curve(left, table, name, label=label, color=color, linewidth=2)
    blocks = [str(name) for name in table if str(name).startswith("block_")]
    for index, name in enumerate(sorted(blocks, key=lambda name: int(name.split("_")[1]))):
        # From light to dark with depth: the order is read without the legend.
        shade = 0.8 - 0.5 * index / max(1, len(blocks) - 1)
        _curve(right, table, name, label=f"block {name.split('_')[1]}", color=str(shade))
    score, label = ("val_mae_years", "Validation MAE (years)")
    if "val_accuracy" in table:
        score, label = ("val_accuracy", "Validation accuracy")
    _curve(right, table, score, label="network", color=ORANGE, linewidth=2)
    left.set(xlabel="Epoch", ylabel="Loss (mean over the batch)")
    right.set(xlabel="Epoch", ylabel=label, ylim=(0, None))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(table["epoch"].min() - 0.5, table["epoch"].max() + 0.5)
        if axes.lines:
            axes.legend(frameon=False, ncols=1 + len(axes.lines) // 6)
    return save_figure(figure, path)


def plot_comparison(
    summary: pd.DataFrame,
    path: Path,
    *,
    runs: pd.DataFrame | None = None,
    title: str = "Comparison of learning methods",
    synthetic: bool = False,
) -> Path:
    """Draw accuracy, paired difference to BP, times and memory of each method side by side.

    Parameters
    ----------
    summary : pandas.DataFrame
        Result of `brainage.evaluation.comparison.summarise_comparison`.
    path : pathlib.Path
        PNG file to write; its folder is made.
    runs : pandas.DataFrame, optional
        Columns `brainage.evaluation.comparison.RUN_COLUMNS`: adds a small dot a seed.
    title, synthetic
        As in `plot_predicted_vs_true`.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    CohortError
        If the summary has no rows or lacks a column.
    """
    check_columns(summary, ("method", "schedule", "n_scans", "n_runs"), "comparison summary")
    if summary.empty:
        raise CohortError("comparison summary", "needs at least one method, got none.")
    least = summary.sort_values("mae_years").iloc[0]
    caption = (
        f"n = {least['n_scans']} scans, {least['n_runs']} runs a method, "
        f"lowest MAE {least['mae_years']:.2f} years ({least['method']})"
    )
    size = (11.0, 2 * (1.6 + 0.42 * len(summary)))
    figure, panels = build_figure((2, 3), size, title, caption, synthetic=synthetic)
    seeds = None if runs is None else _seed_values(runs)
    for index, (panel, (name, bounds, label)) in enumerate(
        zip(panels, COMPARISON_PANELS, strict=False)
    ):
        _comparison_panel(panel, summary, name, bounds, seeds)
        panel.set(xlabel=label, yticks=range(len(summary)))
        panel.set_yticklabels(_method_names(summary) if index % 3 == 0 else [""] * len(summary))
    _comparison_legend(panels[-1], dots=seeds is not None)
    return save_figure(figure, path)


def _comparison_panel(
    axes: Axes, summary: pd.DataFrame, name: str, bounds: str, seeds: pd.DataFrame | None
) -> None:
    for position, row in enumerate(summary.to_dict("records")):
        reference = row["method"] == REFERENCE
        if seeds is not None and not (reference and name == "mae_difference_years"):
            own = (seeds["method"] == row["method"]) & (seeds["schedule"] == row["schedule"])
            values = seeds.loc[own, name].dropna()
            spots = position + 0.24 + np.zeros(len(values))
            axes.scatter(values, spots, s=14, color=GREY, linewidths=0, zorder=2)
        if pd.isna(row[name]):
            axes.annotate(
                MISSING.get(name, "not measured"),
                (0.5, position),
                xycoords=("axes fraction", "data"),
                ha="center",
                va="center",
                color=INK,
                fontsize=9,
            )
            continue
        color = BLUE if reference else ORANGE
        low, high = row[f"{bounds}_low"], row[f"{bounds}_high"]
        draw_interval(axes, position, row[name], low, high, color=color, horizontal=True)
        if name == "seconds_to_target" and row["runs_reaching_target"] < row["n_runs"]:
            note = f"{row['runs_reaching_target']} of {row['n_runs']} runs reach it"
            axes.annotate(
                note,
                (row[name], position),
                (0, 8),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
    axes.set_ylim(len(summary) - 0.4, -0.6)
    if name == "mae_difference_years":
        axes.axvline(0.0, color=GREY, linestyle="--", linewidth=1.2, zorder=1)
    else:
        axes.set_xlim(0, 1.1 * axes.get_xlim()[1])


def _comparison_legend(axes: Axes, *, dots: bool) -> None:
    axes.set_axis_off()
    lines = [
        axes.plot([], [], "o", color=BLUE, ms=7, label="backpropagation")[0],
        axes.plot([], [], "o", color=ORANGE, ms=7, label="other methods")[0],
    ]
    if dots:
        lines.append(axes.plot([], [], "o", color=GREY, ms=4, label="one seed")[0])
    axes.legend(handles=lines, loc="upper left", frameon=False)
    text = (
        "MAE and difference: mean and\n95 % interval over subjects.\n"
        "Times and memory: median,\nleast and greatest run.\nFurther left is better everywhere."
    )
    axes.text(0.03, 0.52, text, transform=axes.transAxes, va="top", fontsize=9, color=INK)


def _method_names(summary: pd.DataFrame) -> list[str]:
    if not summary["method"].duplicated().any():
        return list(summary["method"])
    return [f"{row['method']}\n{row['schedule']}" for row in summary.to_dict("records")]


def _seed_values(runs: pd.DataFrame) -> pd.DataFrame:
    """Compute the mean over folds for each method, schedule and seed, with the difference to BP."""
    reference = runs.loc[runs["method"] == REFERENCE].groupby(["seed", "fold"])["mae_years"].first()
    paired = runs.join(reference.rename("reference"), on=["seed", "fold"])
    difference = paired["mae_years"] - paired["reference"]
    names = [name for name, _, _ in COMPARISON_PANELS]
    table = paired.assign(mae_difference_years=difference)
    return table.groupby(["method", "schedule", "seed"], as_index=False)[names].mean()


def _training_caption(table: pd.DataFrame) -> str:
    epochs = f"{len(table)} epoch{'s' if len(table) > 1 else ''}"
    if "val_accuracy" in table:
        best = table.sort_values("val_accuracy", ascending=False, kind="stable").iloc[0]
        accuracy, epoch = best["val_accuracy"], int(best["epoch"])
        return f"{epochs}, best validation accuracy {accuracy:.1%} in epoch {epoch}"
    if "val_mae_years" not in table or table["val_mae_years"].isna().all():
        return epochs
    best = table.sort_values("val_mae_years", kind="stable").iloc[0]
    return (
        f"{epochs}, best validation MAE {best['val_mae_years']:.2f} years "
        f"in epoch {int(best['epoch'])}"
    )


def _curve(axes: Axes, table: pd.DataFrame, name: str, **style: Any) -> None:
    if name in table and table[name].notna().any():
        # One epoch is a point, which a line would not show.
        axes.plot(table["epoch"], table[name], marker="o" if len(table) < 30 else "", ms=3, **style)


def _ages(table: pd.DataFrame) -> tuple[DoubleArray, DoubleArray, dict[str, Number]]:
    check_columns(table, AGE_COLUMNS, "picture")
    age = table["age_years"].to_numpy(dtype=np.float64)
    predicted = table["predicted_age_years"].to_numpy(dtype=np.float64)
    return age, predicted, age_metrics(age, predicted, subject_ids=_subjects(table))


def _caption(metrics: Mapping[str, Number]) -> str:
    caption = f"n = {metrics['n']} scans, MAE {metrics['mae_years']:.2f} years"
    if metrics["mae_ci_low"] is not None:
        caption += f" [95 % {metrics['mae_ci_low']:.2f} to {metrics['mae_ci_high']:.2f}]"
    if metrics["r"] is not None:
        caption += f", r = {metrics['r']:.2f}"
    return caption


def _subjects(table: pd.DataFrame) -> list[str] | None:
    return list(table["subject_id"].astype(str)) if "subject_id" in table else None


def _dot_size(n: int) -> float:
    return float(np.clip(4000 / max(n, 1), 6, 36))
