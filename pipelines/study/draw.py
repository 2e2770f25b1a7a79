"""Pictures of studies: lines over a number, dots for names; ours filled, the paper's hollow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from brainage.plotting.canvas import INK, build_figure, draw_interval, save_figure
from pipelines.study.table import Results

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
"""Okabe & Ito 2008, told apart with any colour vision."""

Draw = Callable[[Results, Path, str, str], Path]
"""From results, file, title and caption to the file."""


def over(axis: str, metric: str) -> Draw:
    """Lines of a metric over a numeric axis, one for each combination of the other axes."""

    def draw(results: Results, path: Path, title: str, caption: str) -> Path:
        figure, (axes,) = build_figure((1, 1), (7.5, 4.8), title, caption, synthetic=False)
        for colour, (label, rows) in zip(_colours(), _groups(results, axis), strict=False):
            if rows[axis].isna().all():  # a method that does not know this axis: BP has no δ
                axes.axhline(rows[metric].mean(), color=colour, linestyle="--", label=label)
                continue
            rows = rows.sort_values(axis)
            axes.plot(rows[axis], rows[metric], color=colour, label=label)
            for _, row in rows.iterrows():
                half = row[f"{metric}_half_width"]
                low, high = row[metric] - half, row[metric] + half
                draw_interval(axes, row[axis], row[metric], low, high, color=colour)
            if f"{metric}_paper" in rows:
                reported = rows[f"{metric}_paper"]
                axes.plot(rows[axis], reported, "s:", color=INK, mfc="none", alpha=0.6)
        if f"{metric}_paper" in results.table:
            axes.plot([], [], "s", mfc="none", color=INK, label="the paper's")
        _fit_values(axes, results.table, metric)
        axes.set(xlabel=axis.replace("_", " "), ylabel=metric.replace("_", " "))
        _legend(axes)
        return save_figure(figure, path)

    return draw


def dots(*metrics: str, source: str = "the paper's") -> Draw:
    """Draw a dot with its interval for each row and metric, the reported number hollow."""

    def draw(results: Results, path: Path, title: str, caption: str) -> Path:
        rows = _groups(results)[::-1]
        size = (7.5, 1.8 + 0.3 * len(rows))
        figure, (axes,) = build_figure((1, 1), size, title, caption, synthetic=False)
        for colour, metric in zip(PALETTE, metrics, strict=False):
            axes.plot([], [], "o", color=colour, label=metric.replace("_", " "))
            for position, (_, group) in enumerate(rows):
                row = group.iloc[0]
                half = row[f"{metric}_half_width"]
                low, high = row[metric] - half, row[metric] + half
                draw_interval(axes, position, row[metric], low, high, color=colour, horizontal=True)
                if f"{metric}_paper" in row:
                    axes.plot(row[f"{metric}_paper"], position, "s", mfc="none", color=INK)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
        columns = [f"{metric}_paper" for metric in metrics if f"{metric}_paper" in results.table]
        reported = results.table[columns].notna().any(axis=None)
        square = f"; hollow square: {source}" if reported else ""
        # A lone metric stands on the axis, where no legend can hide a dot.
        lone = metrics[0].replace("_", " ") + "\n" if len(metrics) == 1 else ""
        axes.set_xlabel(f"{lone}dot: ours, mean and 95 % interval over seeds{square}")
        if len(metrics) > 1:
            _legend(axes)
        return save_figure(figure, path)

    return draw


def curves(x: str, panels: str, y_label: str, line: str = "line") -> Draw:
    """Curves stored in long rows (`x`, `value`): a panel for each value of the axis `panels`.

    `line` names the column that tells the curves of a panel apart; seeds are averaged.
    """

    def draw(results: Results, path: Path, title: str, caption: str) -> Path:
        table = results.curves
        if panels not in table:
            table = table.assign(**{panels: ""})
        names = list(dict.fromkeys(table[panels]))
        size = (max(7.5, 4.0 * len(names)), 4.6)
        figure, axes = build_figure((1, len(names)), size, title, caption, synthetic=False)
        for panel, name in zip(axes, names, strict=True):
            groups = table[table[panels] == name].groupby(line, sort=False)
            for colour, (label, rows) in zip(_colours(), groups, strict=False):
                point = "point" if "point" in rows else x
                mean = rows.groupby(point).mean(numeric_only=True).reset_index()
                panel.plot(mean[x], mean["value"], color=colour, label=str(label))
            panel.set_title(f"{panels.replace('_', ' ')} {name}".strip(), fontsize=10, color=INK)
            panel.set(xlabel=x.replace("_", " "), ylabel=y_label)
            _legend(panel)
        return save_figure(figure, path)

    return draw


def classes(x: str, y_label: str) -> Draw:
    """One dot a class of a data set, mean over seeds: `value` of the curves' rows over `x`."""

    def draw(results: Results, path: Path, title: str, caption: str) -> Path:
        names = list(dict.fromkeys(results.curves["dataset"]))
        size = (max(7.5, 4.0 * len(names)), 4.6)
        figure, axes = build_figure((1, len(names)), size, title, caption, synthetic=False)
        for panel, name, colour in zip(axes, names, _colours(), strict=False):
            rows = results.curves[results.curves["dataset"] == name]
            means = rows.groupby("line")[[x, "value"]].mean()
            panel.plot(means[x], means["value"], "o", color=colour)
            panel.set_title(str(name), fontsize=10, color=INK)
            panel.set(xlabel=x.replace("_", " "), ylabel=y_label)
        return save_figure(figure, path)

    return draw


def hilbert(results: Results, path: Path, title: str, caption: str) -> Path:
    """Image with its curve above, signal below, one column a data set (figure S9)."""
    names = list(dict.fromkeys(results.curves["dataset"]))
    size = (4.2 * len(names), 6.4)
    figure, axes = build_figure((2, len(names)), size, title, caption, synthetic=False)
    for column, name in enumerate(names):
        rows = results.curves[results.curves["dataset"] == name]
        rows = rows[rows["seed"] == rows["seed"].min()]
        side = int(rows["row"].max()) + 1
        image = rows.sort_values(["row", "column"])["value"].to_numpy().reshape(side, side)
        above, below = axes[column], axes[len(names) + column]
        above.imshow(image, cmap="gray", vmin=0, vmax=1)
        above.plot(rows["column"], rows["row"], color=PALETTE[0], linewidth=0.6)
        above.set_title(str(name), fontsize=10, color=INK)
        above.set_axis_off()
        below.plot(rows["step"], rows["value"], color=PALETTE[0], linewidth=0.7)
        below.set(xlabel="step along the curve", ylabel="grey value")
    return save_figure(figure, path)


def _groups(results: Results, without: str = "") -> list[tuple[str, pd.DataFrame]]:
    """Rows that belong to one line, and its label: the axes that differ over the table."""
    table = results.table
    axes = [name for name in results.axes if name != without]
    telling = [name for name in axes if table[name].nunique(dropna=False) > 1]
    if not telling:
        return [("ours", table)]
    groups = table.groupby(telling, sort=False, dropna=False)
    return [(", ".join(str(v) for v in _tuple(key) if v == v), rows) for key, rows in groups]


def _fit_values(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    """Show all means; the interval of two seeds may be many times as wide and run off the sheet."""
    values = table[[name for name in (metric, f"{metric}_paper") if name in table]].stack()
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.15 * (high - low) + 0.2
    axes.set_ylim(low - margin, high + margin)


def _tuple(key: object) -> tuple[object, ...]:
    return key if isinstance(key, tuple) else (key,)


def _colours() -> list[str]:
    return [PALETTE[n % len(PALETTE)] for n in range(64)]


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7)
