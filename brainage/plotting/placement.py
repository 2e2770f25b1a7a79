"""Pictures of processed scans: brain and outline beside the template, and a sheet of a cohort."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from brainage.plotting.planes import ORIENTATION_WORDS, PLANES, RADIOLOGICAL, Cut, take_plane
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.pipeline import Processed
from brainage.preprocessing.template import load_template
from brainage.types import BoolArray, FloatArray, LedgerEntry, Volume

COLOURS = {"ok": "#1a7f37", "flagged": "#9a6700", "failed": "#cf222e"}
_OUTLINE = np.array([1.0, 0.35, 0.1])
_TILE_MM = 1.0
_TEMPLATE_MM = 2
# Where the three planes cut, mm MNI: through ventricles, deep grey matter and brain stem.
_CUT_MM = (4.0, -18.0, 10.0)
_STYLE = """body{font:14px system-ui,sans-serif;margin:2em;background:#fff;color:#1f2328}
figure{display:inline-block;margin:6px;border-top:4px solid;width:420px;vertical-align:top}
img{width:100%}figcaption{padding:4px;overflow-wrap:anywhere}"""


@dataclass(frozen=True)
class SheetTile:
    """One scan of a contact sheet: its ledger entry and its picture (PNG), if there is one."""

    entry: LedgerEntry
    picture: bytes = b""


def draw_scan(processed: Processed, title: str) -> bytes:
    """Draw axial, coronal and sagittal planes with the mask's outline, the template below.

    Parameters
    ----------
    processed : Processed
    title : str
        Printed above, with the verdict.

    Returns
    -------
    bytes
        PNG of about 900 x 640 pixels, in radiological convention.
    """
    template = load_template(_TEMPLATE_MM)
    affine, shape = processed.image.affine, processed.mask.shape
    reference = resample_volume(Volume(template.intensity, template.affine), affine, shape)
    index = np.linalg.inv(affine) @ np.array([*_CUT_MM, 1.0])
    cut = np.clip(np.round(index[:3]).astype(int), 0, np.array(shape) - 1)
    bright = np.percentile(processed.image.data[processed.mask], 99) if processed.mask.any() else 1
    zoom = max(1, round(processed.image.spacing_mm[0] / _TILE_MM))
    rows = [
        _draw_planes(processed.image.data / bright, processed.mask, cut, zoom),
        _draw_planes(reference / reference.max(), processed.mask, cut, zoom),
    ]
    figure = Figure(figsize=(9, 6.4), dpi=100)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.9))
    axes.imshow(np.concatenate(rows), interpolation="nearest")
    axes.set_axis_off()
    figure.suptitle(
        f"{title}: {processed.recognised}, {processed.verdict}",
        color=COLOURS[processed.verdict],
        fontsize=11,
    )
    return _to_png(figure)


def build_sheet(tiles: Sequence[SheetTile], title: str) -> str:
    """Write one self-contained HTML page of all scans: failed ones first, then flagged, then ok."""
    order = {"failed": 0, "flagged": 1, "ok": 2}
    ranked = sorted(tiles, key=lambda tile: order[tile.entry.verdict])
    counts = {name: sum(tile.entry.verdict == name for tile in tiles) for name in COLOURS}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    body = "\n".join(_tile_html(tile) for tile in ranked)
    heading, sides = html.escape(title), ORIENTATION_WORDS[RADIOLOGICAL]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{heading}</h1>"
        f"<p>{len(tiles)} scans: {summary}. Above the scan with the outline of its brain, "
        f"below the template with the same outline. {sides}</p>\n{body}\n</body></html>\n"
    )


def _tile_html(tile: SheetTile) -> str:
    entry = tile.entry
    image = ""
    if tile.picture:
        data = base64.b64encode(tile.picture).decode("ascii")
        image = f'<img alt="{html.escape(entry.scan_id)}" src="data:image/png;base64,{data}">'
    text = html.escape(f"{entry.scan_id}: {entry.verdict}. {entry.reason}")
    colour = COLOURS[entry.verdict]
    return f'<figure style="border-color:{colour}">{image}<figcaption>{text}</figcaption></figure>'


def _draw_planes(data: FloatArray, mask: BoolArray, cut: np.ndarray, zoom: int) -> FloatArray:
    """Draw three planes side by side: RGB (rows, columns, 3)."""
    planes = []
    for axis in PLANES:
        plane = Cut(axis, int(cut[axis]))
        grey, brain = take_plane(data, plane).clip(0, 1), take_plane(mask, plane)
        grey, brain = (np.kron(plane, np.ones((zoom, zoom))) for plane in (grey, brain))
        edge = (brain > 0) & ~ndimage.binary_erosion(brain > 0)
        planes.append(np.where(edge[..., None], _OUTLINE, grey[..., None]))
    height = max(plane.shape[0] for plane in planes)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 4), (0, 0))) for p in planes]
    return np.concatenate(padded, axis=1)


def _to_png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
