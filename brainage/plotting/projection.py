"""Picture of projected speed-ups over the number of blocks."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from brainage.plotting.canvas import BLUE, GREY, INK, ORANGE, build_figure, save_figure

RIVALS = {
    "one_f_one_b_m32_speedup": "BP 1F1B, M = 32",
    "one_f_one_b_m4_speedup": "BP 1F1B, M = 4",
    "data_parallel_speedup": "BP data parallel",
}
STYLES = ("--", ":", "-.")


def plot_projection(
    table: pd.DataFrame, path: Path, title: str, reported: Mapping[int, float] | None = None
) -> Path:
    """Draw the projected speed-up over backpropagation, beside what a source reports.

    Parameters
    ----------
    table : pandas.DataFrame
        One row for each number of blocks and devices: blocks, devices, lfnn_l_speedup,
        bound_speedup and the baselines' columns.
    reported : mapping of int to float, optional
        Speed-ups that the leader-follower paper reports, by number of blocks.
    """
    caption = "projected from times of blocks measured on one CPU; only the paper's are its own"
    fixed = sorted(set(table.loc[table["devices"] != table["blocks"], "devices"]))
    panels = [(f"{count} devices", table[table["devices"] == count]) for count in fixed]
    own = table[table["devices"] == table["blocks"]]
    if len(own):
        panels.append(("one device a block", own))
    figure, axes = build_figure(
        (1, len(panels)), (4.8 * len(panels) + 1, 4.4), title, caption, synthetic=False
    )
    for panel, (name, rows) in zip(axes, panels, strict=True):
        blocks = rows["blocks"]
        panel.plot(blocks, rows["lfnn_l_speedup"], "o-", color=BLUE, label="LFNN-ℓ, projected")
        for (column, label), style in zip(RIVALS.items(), STYLES, strict=True):
            panel.plot(blocks, rows[column], style, color=GREY, label=f"{label}, projected")
        if reported:
            numbers = sorted(reported)
            values = [reported[number] for number in numbers]
            panel.plot(numbers, values, "s", color=ORANGE, label="LFNN-ℓ as the paper reports it")
        panel.set_title(name, fontsize=10, color=INK)
        panel.set_xlabel("blocks K")
        panel.set_ylabel("speed-up over BP on one device")
        panel.set_ylim(bottom=0)
    axes[0].legend(fontsize=8, frameon=False)
    return save_figure(figure, path)
