"""A report as a tagged PDF (PDF/UA-1) of one A4 page, by Typst.

`page.typ` lays it out. Type is DejaVu Sans, whose file Matplotlib carries; letters that it lacks
are set in the boxes of the Last Resort font, and can be copied and read aloud all the same.
"""

import json
import struct
from base64 import b64encode
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import matplotlib
import typst

from brainage.report.content import RESEARCH_ONLY, Report
from brainage.report.page_html import COLOURS, TINTS

_TEMPLATE = Path(__file__).with_name("page.typ")
_PICTURES = ("planes", "map", "age_line", "cohort", "volume_curves")
# Typst keeps what it laid out over so many compilations: 60 MB a page.
_KEPT_COMPILATIONS = 10


def render_pdf(report: Report) -> bytes:
    """Write the report as one A4 page; the same report gives the same bytes."""
    content = asdict(report) | {
        "file_name": report.file_name,
        "notice": RESEARCH_ONLY,
        "colour": COLOURS[report.tone],
        "tint": TINTS[report.tone],
        "caution": COLOURS["flagged"],
    }
    del content["numbers"]
    inputs = {}
    for name in _PICTURES:
        if content[name] is not None:
            inputs[name], content[name]["proportion"] = _wrap(content[name].pop("png"))
    said = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    compiler = typst.Compiler(root=_TEMPLATE.parent, font_paths=_load_fonts())
    pdf = compiler.compile(
        _TEMPLATE.read_bytes(),
        sys_inputs=inputs | {"report": said.decode("utf-8")},
        pdf_standards="ua-1",
    )
    assert isinstance(pdf, bytes)
    for _ in range(_KEPT_COMPILATIONS + 1):
        compiler.compile(b"", sys_inputs=None)
    return pdf


def _wrap(png: bytes) -> tuple[str, float]:
    """Wrap a PNG in an SVG, for Typst takes from memory what is text alone; and its proportion."""
    width, height = struct.unpack(">II", png[16:24])  # of its first chunk, IHDR
    size = f'width="{width}" height="{height}"'
    picture = f'<image {size} href="data:image/png;base64,{b64encode(png).decode("ascii")}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{picture}</svg>', width / height


@lru_cache(maxsize=1)
def _load_fonts() -> typst.Fonts:
    """Load Matplotlib's fonts and no others, so that a page is the same on every machine."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder]
    )
