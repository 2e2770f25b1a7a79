"""How well the quality gate's joint score tells what is no T1 head from good and poor T1 heads.

``python -m pipelines.study.gate_roc --output build/damage`` reads the damage.csv of
`pipelines.study.damage` and writes gate.md (a row a kind of damage) and gate_roc.png beside it.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from brainage.preprocessing.verdict import (
    GROUPS,
    MEANING,
    join_measures,
    joint_limit,
    load_limits,
)
from brainage.workflows.console import run_as_command, say
from pipelines.study.other_images import CONTRASTS

matplotlib.use("Agg")

GOOD = (
    "none", "stripped", "pitched 30°", "rolled 30°", "turned 30°", "shifted 4 cm",
    "left–right flipped header", "strong bias field",
)  # fmt: skip
CUT = tuple(f"{part} of the brain cut by 3 cm" for part in ("top", "bottom", "front", "side"))
POOR = ("noise", "ghosts", "motion", "blur", "6 mm slices", "6 mm slices, interpolated")
OTHER = (
    "inverted contrast", "labels", "mask", *CONTRASTS, *(f"{name}, stripped" for name in CONTRASTS)
)  # fmt: skip
CLASSES = {
    "good T1: undamaged, turned, shifted, bias field": GOOD,
    "poor T1: noise, ghosts, motion, blur, thick slices": POOR,
    "cut T1: 3 cm of the brain outside the image": CUT,
    "no T1: other contrasts, labels, masks": OTHER,
}


def main() -> None:
    """Read damage.csv, write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of damage.csv")
    output = parser.parse_args().output
    write_roc(pd.read_csv(output / "damage.csv"), output)


def write_roc(table: pd.DataFrame, output: Path) -> None:
    """Write gate.md and gate_roc.png from the rows of damaged scans."""
    table = table.assign(joint=score_rows(table))
    (output / "gate.md").write_text(tabulate(table), encoding="utf-8")
    draw(table, output / "gate_roc.png")
    say(f"written to {output}")


def score_rows(table: pd.DataFrame) -> NDArray[np.float64]:
    """Joint score of each row, over what fails a scan of its kind; infinite without a brain."""
    scores = []
    for row in table.to_dict("records"):
        measures = {name: row[name] for name in MEANING if not pd.isna(row.get(name))}
        if not measures:
            scores.append(np.inf)
            continue
        group = GROUPS[row["recognised"]]
        scores.append(join_measures(load_limits()[group], measures) / joint_limit(group))
    return np.array(scores)


def tabulate(table: pd.DataFrame) -> str:
    """Markdown table: a row for each class of damages."""
    good = table["joint"][table["damage"].isin(GOOD)]
    lines = [
        "| scans | n | ok | flagged | failed | joint score above its limit | AUC against good |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, names in CLASSES.items():
        part = table[table["damage"].isin(names)]
        counts = [f"{(part['verdict'] == v).mean():.1%}" for v in ("ok", "flagged", "failed")]
        above = f"{(part['joint'] > 1).mean():.1%}"
        auc = "" if names == GOOD else f"{area(good, part['joint']):.3f}"
        lines.append(f"| {title} | {len(part)} | {' | '.join(counts)} | {above} | {auc} |")
    return "\n".join(lines) + "\n"


def area(good: pd.Series, bad: pd.Series) -> float:
    """Area under the curve: how often the score of a bad scan exceeds that of a good one."""
    return float(roc_auc_score(*_labelled(good, bad)))


def _labelled(good: pd.Series, bad: pd.Series) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    scores = np.r_[good, bad]
    largest = scores[np.isfinite(scores)].max()
    return np.arange(len(scores)) >= len(good), np.minimum(scores, largest + 1)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the ROC curve of each class of damages against good scans."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    good = table["joint"][table["damage"].isin(GOOD)]
    for title, names in CLASSES.items():
        bad = table["joint"][table["damage"].isin(names)]
        if names == GOOD or bad.empty:
            continue
        false, true, _ = roc_curve(*_labelled(good, bad))
        axes.plot(false, true, label=f"{title.partition(':')[0]} (AUC {area(good, bad):.3f})")
    axes.set(xlabel="share of good T1 above the score", ylabel="share of bad scans above it")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(run_as_command(main))
