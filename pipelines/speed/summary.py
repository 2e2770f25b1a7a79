"""Tables and picture of a benchmark: one row a run, medians over repeats, ratios."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainage.evaluation.comparison import REFERENCE
from brainage.plotting.canvas import BLUE, GREY, ORANGE, build_figure, save_figure
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import Measurement

KEYS = ["case", "name", "method", "schedule", "network", "blocks", "devices"]
COLUMNS = (
    *KEYS[2:],
    "repeat",
    "seconds_per_step",
    "seconds_per_epoch",
    "seconds_to_target",
    "peak_memory_mb",
)
"""Columns of speed.csv."""
MEASURES = (
    "seconds_per_step",
    "seconds_per_epoch",
    "seconds_to_target",
    "seconds_in_all",
    "data_share",
    "peak_memory_mb",
    "activation_mb",
    "tensor_mb",
    "final_val_score",
    "test_mae_years",
    "energy_joules",
)


@dataclass(frozen=True)
class Result:
    """One run of a candidate on a case."""

    case: str
    candidate: Candidate
    network: str
    blocks: int
    repeat: int
    measured: Measurement


def tabulate_runs(results: Sequence[Result]) -> pd.DataFrame:
    """Tabulate the runs: one row each, with `KEYS`, repeat and `MEASURES`.

    NaN is what was not measured or not reached. The target of a repeat is the lowest final
    validation error among backpropagation's runs.
    """
    runs = pd.DataFrame([_row(result) for result in results])
    finals = runs["final_val_score"].where(runs["method"] == REFERENCE)
    targets = finals.groupby([runs["case"], runs["repeat"]]).transform("min")
    runs["seconds_to_target"] = [
        seconds_to(_curve(result), target) for result, target in zip(results, targets, strict=True)
    ]
    return runs


def tabulate_curves(results: Iterable[Result]) -> pd.DataFrame:
    """Tabulate the trainings: case, name, repeat, epoch, seconds up to its end, val_score."""
    rows = [
        (result.case, result.candidate.name, result.repeat, number, *point)
        for result in results
        for number, point in enumerate(_curve(result), start=1)
    ]
    return pd.DataFrame(rows, columns=["case", "name", "repeat", "epoch", "seconds", "val_score"])


def seconds_to(curve: Iterable[tuple[float, float]], target: float) -> float:
    """Find the seconds until the validation error is at or below the target; NaN if never.

    Parameters
    ----------
    curve : iterable of (float, float)
        Seconds of training and validation error after each epoch.
    """
    return next((seconds for seconds, error in curve if error <= target), math.nan)


def summarise(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Take median and quartiles of each measure over the repeats, and ratios to the baseline.

    A ratio is the median over repeats of the ratio within a repeat, so that a machine that is
    slow for a while does not move it. `target_reached` counts the repeats that reached the target.
    """
    measures = list(MEASURES)
    pairs = pd.MultiIndex.from_frame(runs[["case", "repeat"]])
    base = runs[runs["name"] == baseline].set_index(["case", "repeat"])[measures]
    ratios = runs[measures].div(base.reindex(pairs).to_numpy())
    grouped = runs.groupby(KEYS, sort=False)
    parts = {
        "": grouped[measures].median(),
        "_q1": grouped[measures].quantile(0.25),
        "_q3": grouped[measures].quantile(0.75),
        "_ratio": ratios.groupby([runs[key] for key in KEYS], sort=False).median(),
    }
    columns = {f"{name}{end}": part[name] for name in measures for end, part in parts.items()}
    reached = grouped["seconds_to_target"].count()
    table = pd.DataFrame({"repeats": grouped.size(), **columns, "target_reached": reached})
    return table.reset_index()


def overview_tables(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Name the candidate as `method`, with its case if there are several: for MLflow's charts."""
    several = runs["case"].nunique() > 1
    runs, curves = (
        table.assign(method=table["case"] + " " + table["name"] if several else table["name"])
        for table in (runs, curves)
    )
    return runs, curves.rename(columns={"val_score": "val_mae_years"})


def to_markdown(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """Write the table that people read: median [quartiles] × the baseline, no empty column."""
    shown = [name for name in MEASURES if summary[name].notna().any()]
    header = ["case", "candidate", "blocks", "devices", *(name.replace("_", " ") for name in shown)]
    lines = [f"# {title}", "", *notes, "", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in summary.to_dict("records"):
        cells = [row["case"], row["name"], row["blocks"], row["devices"]]
        cells += [_cell(row, name) for name in shown]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path, title: str, caption: str) -> None:
    """Draw one panel a measure: medians as dots, every run as a small mark."""
    wanted = ("seconds_per_step", "seconds_to_target", "tensor_mb", "peak_memory_mb")
    shown = [name for name in wanted if table[name].notna().any()]
    labels = table["case"] + ", " + table["name"] if table["case"].nunique() > 1 else table["name"]
    order = list(dict.fromkeys(labels))
    size = (4.2 * len(shown) + 1.5, 1.6 + 0.35 * len(order))
    figure, panels = build_figure((1, len(shown)), size, title, caption, synthetic=False)
    for number, (panel, name) in enumerate(zip(panels, shown, strict=True)):
        for place, label in enumerate(reversed(order)):
            values = table.loc[labels == label, name].dropna()
            is_bp = (table.loc[labels == label, "method"] == REFERENCE).all()
            panel.plot(values, [place] * len(values), "|", color=GREY, markersize=9)
            if len(values):
                panel.plot(values.median(), place, "o", color=BLUE if is_bp else ORANGE)
        panel.set_yticks(range(len(order)), reversed(order) if number == 0 else [""] * len(order))
        panel.set_xlim(left=0)
        panel.set_xlabel(name.replace("_", " "))
    save_figure(figure, path)


def _row(result: Result) -> dict[str, Any]:
    candidate, measured = result.candidate, result.measured
    last = measured.epochs[-1] if measured.epochs else None
    in_all = last.train_seconds_cumulative if last else math.nan
    return {
        "case": result.case,
        "name": candidate.name,
        "method": candidate.method,
        "schedule": candidate.schedule,
        "network": result.network,
        "blocks": result.blocks,
        "devices": candidate.devices,
        "repeat": result.repeat,
        "seconds_per_step": _median(measured.step_seconds),
        "seconds_per_epoch": in_all / len(measured.epochs) if last else math.nan,
        "seconds_in_all": in_all,
        "data_share": _median([epoch.data_share for epoch in measured.epochs[1:]]),
        "peak_memory_mb": measured.peak_memory_mb,
        "activation_mb": measured.activation_mb,
        "tensor_mb": measured.tensor_mb,
        "final_val_score": last.val_score if last else math.nan,
        "test_mae_years": measured.test_mae_years,
        "energy_joules": measured.energy_joules,
    }


def _curve(result: Result) -> list[tuple[float, float]]:
    return [(epoch.train_seconds_cumulative, epoch.val_score) for epoch in result.measured.epochs]


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _cell(row: dict[Any, Any], name: str) -> str:
    if math.isnan(row[name]):
        return "–"
    text = f"{row[name]:.3g} [{row[f'{name}_q1']:.3g}, {row[f'{name}_q3']:.3g}]"
    ratio = row[f"{name}_ratio"]
    if name == "seconds_to_target":
        text += f" in {row['target_reached']}/{row['repeats']}"
    return text if math.isnan(ratio) else f"{text} ×{ratio:.2f}"
