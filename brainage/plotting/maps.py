"""Pictures of signed maps over a scan."""

from pathlib import Path

import numpy as np

from brainage.plotting.canvas import build_figure, save_figure
from brainage.plotting.planes import (
    ORIENTATION_WORDS,
    PLANE_NAMES,
    PLANES,
    RADIOLOGICAL,
    Cut,
    draw_overlay,
    draw_plane,
    map_limit,
)
from brainage.types import FloatArray, HalfArray


def plot_map(
    attribution: FloatArray,
    array: HalfArray,
    path: Path,
    *,
    title: str,
    unit: str,
    legend: tuple[str, str],
) -> Path:
    """Draw three planes of a map over the scan, with a scale in numbers.

    Planes run through the voxel with the largest absolute value.

    Parameters
    ----------
    attribution : numpy.ndarray of float32 (I, J, K)
        Signed map, RAS+.
    array : numpy.ndarray of float16 (I, J, K)
        Prepared scan.
    unit : str
        Of the map.
    legend : tuple of str (2,)
        What values below and above 0 mean.
    """
    size = np.abs(attribution)
    centre = np.unravel_index(int(size.argmax()), size.shape)
    limit = map_limit(attribution)
    caption = f"blue: {legend[0]}, red: {legend[1]} ({unit})\n{ORIENTATION_WORDS[RADIOLOGICAL]}"
    figure, panels = build_figure((1, 3), (10.0, 4.2), title, caption, synthetic=False)
    scan = np.asarray(array, np.float32)
    # Prepared intensities may lie around 0.
    darkest, brightest = np.percentile(scan, (0.5, 99.8))
    grey = (scan - darkest) / max(float(brightest - darkest), 1e-9)
    for axis, panel in zip(PLANES, panels, strict=True):
        cut = Cut(axis, int(centre[axis]))
        draw_plane(panel, grey, cut)
        drawn = draw_overlay(panel, attribution, cut, limit)
        panel.set_title(f"{PLANE_NAMES[axis]}, voxel {cut.index}", fontsize=9)
    figure.colorbar(drawn, ax=panels, shrink=0.8, label=unit)
    return save_figure(figure, path)
