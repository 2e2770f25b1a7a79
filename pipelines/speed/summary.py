"""From laps to the table, the summary and the picture."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainage.plotting.canvas import BLUE, GREY, ORANGE, build_figure, save_figure
from pipelines.speed.entrants import Entrant, Epoch, Lap

COLUMNS = (
    "method",
    "schedule",
    "network",
    "blocks",
    "devices",
    "repeat",
    "seconds_per_step",
    "seconds_per_epoch",
    "seconds_to_target",
    "peak_memory_mb",
)
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
    """A lap, who ran it, and the entrant that it is compared with."""

    case: str
    entrant: Entrant
    repeat: int
    lap: Lap
    against: str


def rows_of(results: Iterable[Result]) -> list[dict[str, Any]]:
    """One row a lap, with all measures; NaN for what was not measured or not reached."""
    listed = list(results)
    rows = []
    for result in listed:
        spec, done = result.entrant.spec, result.lap
        peers = [r for r in listed if (r.case, r.repeat) == (result.case, result.repeat)]
        last = done.epochs[-1] if done.epochs else None
        in_all = last.train_seconds_cumulative if last else math.nan
        rows.append(
            {
                "case": result.case,
                "name": spec.name,
                "method": spec.method,
                "schedule": spec.schedule,
                "network": result.entrant.network,
                "blocks": result.entrant.blocks,
                "devices": spec.devices,
                "repeat": result.repeat,
                "seconds_per_step": _median(done.step_seconds),
                "seconds_per_epoch": in_all / len(done.epochs) if done.epochs else math.nan,
                "seconds_to_target": seconds_to(done.epochs, target_of(peers)),
                "seconds_in_all": in_all,
                "data_share": _median([epoch.data_share for epoch in done.epochs[1:]]),
                "peak_memory_mb": done.peak_memory_mb,
                "activation_mb": done.activation_mb,
                "tensor_mb": done.tensor_mb,
                "final_val_score": last.val_score if last else math.nan,
                "test_mae_years": done.test_mae_years,
                "energy_joules": done.energy_joules,
            }
        )
    return rows


def target_of(peers: Iterable[Result]) -> float:
    """Lowest final validation error among backpropagation's runs of a repeat; NaN without one."""
    finals = [
        peer.lap.epochs[-1].val_score
        for peer in peers
        if peer.entrant.spec.method == "bp" and peer.lap.epochs
    ]
    return min(finals, default=math.nan)


def seconds_to(epochs: Iterable[Epoch], target: float) -> float:
    """Seconds of training until the validation error is at or below the target; NaN if never."""
    reached = (e.train_seconds_cumulative for e in epochs if e.val_score <= target)
    return next(reached, math.nan)


def speed_table(results: Sequence[Result]) -> pd.DataFrame:
    """Content of speed.csv: the promised columns, one row a lap."""
    table = pd.DataFrame(rows_of(results))
    return table[list(COLUMNS)]


def summarise(results: Sequence[Result]) -> pd.DataFrame:
    """Median and quartiles of each measure over the repeats, and ratios to the reference.

    A ratio is the median over repeats of the ratio within a repeat, so that a machine that is
    slow for a while does not move it. `*_reached` counts the repeats with a value.
    """
    table = pd.DataFrame(rows_of(results))
    keys = ["case", "name", "method", "schedule", "network", "blocks", "devices"]
    summary = []
    for key, part in table.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | {"repeats": len(part)}
        base = table[(table["case"] == row["case"]) & (table["name"] == results[0].against)]
        paired = part.merge(base, on="repeat", suffixes=("", "_base"))
        for measure in MEASURES:
            values = part[measure].dropna()
            low, middle, high = (
                np.percentile(values, (25, 50, 75)) if len(values) else [math.nan] * 3
            )
            row |= {measure: middle, f"{measure}_q1": low, f"{measure}_q3": high}
            ratios = (paired[measure] / paired[f"{measure}_base"]).dropna()
            row[f"{measure}_ratio"] = ratios.median() if len(ratios) else math.nan
        row["target_reached"] = int(part["seconds_to_target"].notna().sum())
        summary.append(row)
    return pd.DataFrame(summary)


def overview_tables(results: Sequence[Result]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Laps and their validation curves, with the entrant as `method`, as MLflow's charts take it.

    The case is named too where there are several.
    """
    laps = pd.DataFrame(rows_of(results))
    several = laps["case"].nunique() > 1
    labels = laps["case"] + " " + laps["name"] if several else laps["name"]
    curves = [
        {"method": label, "epoch": number, "val_mae_years": epoch.val_score}
        for label, result in zip(labels, results, strict=True)
        for number, epoch in enumerate(result.lap.epochs, start=1)
    ]
    return laps.assign(method=labels), pd.DataFrame(curves)


def to_markdown(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """The table that people read: median [quartiles], × the reference; no column without data."""
    shown = [name for name in MEASURES if summary[name].notna().any()]
    header = ["case", "entrant", "blocks", "devices", *(name.replace("_", " ") for name in shown)]
    lines = [f"# {title}", "", *notes, "", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in summary.to_dict("records"):
        cells = [row["case"], row["name"], row["blocks"], row["devices"]]
        cells += [_cell(row, name) for name in shown]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def draw(results: Sequence[Result], path: Path, title: str, caption: str) -> None:
    """One panel a measure: medians as dots, every repeat as a small mark."""
    table = pd.DataFrame(rows_of(results))
    wanted = ("seconds_per_step", "seconds_to_target", "tensor_mb", "peak_memory_mb")
    shown = [name for name in wanted if table[name].notna().any()]
    labels = table["case"] + ", " + table["name"] if table["case"].nunique() > 1 else table["name"]
    order = list(dict.fromkeys(labels))
    size = (4.2 * len(shown) + 1.5, 1.6 + 0.35 * len(order))
    figure, panels = build_figure((1, len(shown)), size, title, caption, synthetic=False)
    for number, (panel, name) in enumerate(zip(panels, shown, strict=True)):
        for place, label in enumerate(reversed(order)):
            values = table.loc[labels == label, name].dropna()
            is_bp = (table.loc[labels == label, "method"] == "bp").all()
            panel.plot(values, [place] * len(values), "|", color=GREY, markersize=9)
            if len(values):
                panel.plot(values.median(), place, "o", color=BLUE if is_bp else ORANGE)
        panel.set_yticks(range(len(order)), reversed(order) if number == 0 else [""] * len(order))
        panel.set_xlim(left=0)
        panel.set_xlabel(name.replace("_", " "))
    save_figure(figure, path)


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
