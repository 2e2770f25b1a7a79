"""Shared parts of pictures: the sheet with its title, colours, a dot with its interval, the file.

Colours are those of Okabe & Ito 2008 (jfly.uni-koeln.de/color), told apart by readers with any
colour vision.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brainage.files import atomic_write_bytes

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8C8C8C", "#222222"
SYNTHETIC_LABEL = "synthetic phantoms, not people"
DPI = 150


def build_figure(
    panels: tuple[int, int],
    size_inches: tuple[float, float],
    title: str,
    caption: str,
    *,
    synthetic: bool,
) -> tuple[Figure, list[Axes]]:
    """Make a figure with empty panels, its title and caption above them.

    Parameters
    ----------
    panels : tuple of int (2,)
        Rows and columns.
    size_inches : tuple of float (2,)
        Width and height.
    title, caption : str
        First and second line above the panels.
    synthetic : bool
        Write below the panels that the data are phantoms.

    Returns
    -------
    tuple of Figure and list of Axes
        The panels row by row.
    """
    figure = Figure(figsize=size_inches, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(*panels, squeeze=False).ravel())
    figure.suptitle(f"{title}\n{caption}", fontsize=11, color=INK)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#E6E6E6", linewidth=0.8)
        panel.set_axisbelow(True)
    if synthetic:
        figure.supxlabel(SYNTHETIC_LABEL, fontsize=10, color=ORANGE, weight="bold")
    return figure, axes


def draw_interval(
    axes: Axes,
    position: float,
    value: float,
    low: float | None,
    high: float | None,
    *,
    color: str,
    horizontal: bool = False,
) -> None:
    """Draw a value as a large dot with its interval.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Panel to draw on.
    position : float
        Place on the other axis.
    value, low, high : float
        The dot and its interval; without bounds (None or NaN) the dot stands alone.
    color : str
        Colour of both.
    horizontal : bool
        Values run along x instead of y.
    """
    style: dict[str, Any] = {"fmt": "o", "color": color, "ms": 7, "elinewidth": 2, "zorder": 3}
    spread = None
    if low is not None and high is not None and not (pd.isna(low) or pd.isna(high)):
        # The percentile interval of very few subjects need not hold the mean.
        spread = [[max(0.0, value - low)], [max(0.0, high - value)]]
    if horizontal:
        axes.errorbar(value, position, xerr=spread, **style)
    else:
        axes.errorbar(position, value, yerr=spread, **style)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.
    path : pathlib.Path
        File to write; its folder is made.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    buffer = BytesIO()
    # Without the program's name in it, the same table gives the same bytes.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    atomic_write_bytes(path, buffer.getvalue())
    return path
