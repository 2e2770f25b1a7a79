"""Pictures of signed maps over a scan."""

from pathlib import Path

import numpy as np

from brainage.plotting.canvas import build_figure, save_figure
from brainage.types import FloatArray, HalfArray


def plot_map(
    attribution: FloatArray, array: HalfArray, path: Path, *, title: str, unit: str
) -> Path:
    """Draw three slices of a map over the scan: red raises the predicted age, blue lowers it.

    Slices run through the voxel with the largest absolute value.

    Parameters
    ----------
    attribution : numpy.ndarray of float32 (I, J, K)
        Signed map, RAS+.
    array : numpy.ndarray of float16 (I, J, K)
        Prepared scan.
    unit : str
        Of the map.
    """
    size = np.abs(attribution)
    centre = np.unravel_index(int(size.argmax()), size.shape)
    limit = max(float(np.percentile(size, 99.5)), 1e-9)
    caption = f"red: looks older, blue: looks younger ({unit}); left is left"
    figure, panels = build_figure((1, 3), (10.0, 4.0), title, caption, synthetic=False)
    drawn = None
    for axis, panel in enumerate(panels):
        scan = np.take(np.asarray(array, np.float32), centre[axis], axis=axis).T
        values = np.take(attribution, centre[axis], axis=axis).T
        panel.imshow(scan, cmap="gray", origin="lower")
        # Faint where the map is small, so that the anatomy stays visible.
        alpha = np.clip(np.abs(values) / limit, 0, 1) * 0.85
        drawn = panel.imshow(
            values, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=alpha, origin="lower"
        )
        panel.set_axis_off()
        panel.set_title(f"{'xyz'[axis]} voxel {int(centre[axis])}", fontsize=9)
    if drawn is not None:
        figure.colorbar(drawn, ax=panels, shrink=0.8, label=unit)
    return save_figure(figure, path)
