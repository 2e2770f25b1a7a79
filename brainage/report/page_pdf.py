"""A report as a PDF of one A4 page, by ReportLab.

Type is Helvetica, which every reader has; text beyond Western European letters is set in DejaVu
Sans, whose file Matplotlib carries.
"""

import io
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import matplotlib
from PIL import Image as PillowImage
from reportlab import rl_config
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, KeepInFrame, Paragraph, Table

from brainage.report.checks import Gauge, Row
from brainage.report.content import RESEARCH_ONLY, Picture, Report
from brainage.report.page_html import COLOURS, TINTS

_WIDTH, _HEIGHT = A4
_MARGIN = 14 * mm
_INNER = _WIDTH - 2 * _MARGIN
_FOOTER = 9 * mm
_FLOOR = _FOOTER + 6 * mm
# Planes take what the tables leave, within these heights; curves with their caption.
_PICTURES = 45 * mm, 76 * mm
_CURVES = 34 * mm
_GAP = 6 * mm
_INK, _MUTED, _BLUE = HexColor("#1f2328"), HexColor("#57606a"), HexColor("#0072b2")
_PALE = HexColor("#8c959f")
_FALLBACK = "DejaVuSans"
# Names of results are short, their remarks long.
_NAMES_SHARE = 0.34


def render_pdf(report: Report) -> bytes:
    """Write the report as one A4 page; the same report gives the same bytes."""
    _register_fallback()
    # Text in place of bytes is for old printers; Python takes a second and a half to write it.
    rl_config.useA85 = 0
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=A4, invariant=1, pageCompression=1, lang="en")
    canvas.setTitle(report.file_name)
    canvas.setViewerPreference("DisplayDocTitle", "true")
    canvas.setSubject(RESEARCH_ONLY)
    canvas.setCreator("brainage")
    top = _draw_head(canvas, report)
    top = _draw_verdict(canvas, report, top)
    if report.headline:
        top = _draw_result(canvas, report, top)
    tables = _Tables(report)
    below = tables.height + (0 if report.volume_curves is None else _CURVES) + 18 * mm
    room = min(max(top - _FLOOR - below, _PICTURES[0]), _PICTURES[1])
    top = _draw_pictures(canvas, report, top, room)
    top = _draw_curves(canvas, report, top)
    tables.draw(canvas, top)
    _draw_foot(canvas, report)
    canvas.showPage()
    canvas.save()
    return stream.getvalue()


def _register_fallback() -> None:
    if _FALLBACK not in pdfmetrics.getRegisteredFontNames():
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        pdfmetrics.registerFont(TTFont(_FALLBACK, str(path)))


def _font_of(text: str, bold: bool = False) -> str:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return _FALLBACK
    return "Helvetica-Bold" if bold else "Helvetica"


def _paragraph(
    text: str, size: float = 8.0, color: Color = _INK, bold: bool = False, bullet: bool = False
) -> Paragraph:
    style = ParagraphStyle(
        "text",
        fontName=_font_of(text, bold),
        fontSize=size,
        leading=size * 1.25,
        textColor=color,
        leftIndent=7 if bullet else 0,
        splitLongWords=1,
    )
    return Paragraph(escape(text), style, bulletText="•" if bullet else None)


def _put(
    canvas: Canvas, flowables: list[Flowable], x: float, top: float, size: tuple[float, float]
) -> float:
    """Draw flowables below (x, top), shrunk if taller than the box; returns the bottom."""
    box = KeepInFrame(size[0], size[1], flowables, mode="shrink")
    _, height = box.wrapOn(canvas, *size)
    box.drawOn(canvas, x, top - height)
    return top - float(height)


def _draw_head(canvas: Canvas, report: Report) -> float:
    """Draw title, scan and date, and the strip that says what the page is not."""
    top = _HEIGHT - _MARGIN
    canvas.setFillColor(_INK)
    canvas.setFont("Helvetica-Bold", 19)
    canvas.drawString(_MARGIN, top - 15, "Brain age report")
    right = _WIDTH - _MARGIN
    if report.person_name:
        canvas.setFont(_font_of(report.person_name, bold=True), 10)
        canvas.drawRightString(right, top - 5, report.person_name)
    canvas.setFillColor(_MUTED)
    canvas.setFont(_font_of(report.label), 8.5)
    canvas.drawRightString(right, top - 16, f"{report.label}, report of {report.made_on}")
    subject = ", ".join(report.subject)
    if subject:
        canvas.setFont(_font_of(subject), 8)
        canvas.drawString(_MARGIN, top - 26, subject)
        top -= 9
    strip = top - 24 - 5 * mm
    canvas.setFillColor(_BLUE)
    canvas.rect(_MARGIN, strip, _INNER, 5 * mm, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.setFont("Helvetica-Bold", 8.5)
    canvas.drawString(_MARGIN + 3 * mm, strip + 1.6 * mm, RESEARCH_ONLY)
    return strip - 4 * mm


def _draw_foot(canvas: Canvas, report: Report) -> None:
    canvas.setStrokeColor(HexColor("#d0d7de"))
    canvas.line(_MARGIN, _FOOTER + 4 * mm, _WIDTH - _MARGIN, _FOOTER + 4 * mm)
    canvas.setFillColor(_INK)
    canvas.setFont("Helvetica-Bold", 7.5)
    canvas.drawString(_MARGIN, _FOOTER, RESEARCH_ONLY)
    canvas.setFillColor(_MUTED)
    canvas.setFont("Helvetica", 7.5)
    canvas.drawRightString(_WIDTH - _MARGIN, _FOOTER, f"Page 1 of 1, made {report.made_on}")


def _draw_verdict(canvas: Canvas, report: Report, top: float) -> float:
    """Draw the box with the gate's verdict and its reasons, before any result."""
    kind = report.tone
    texts: list[Flowable] = [
        _paragraph(report.verdict_words, 10.5, HexColor(COLOURS[kind]), bold=True),
        *(_paragraph(text, 8, bullet=True) for text in report.warnings),
    ]
    width = _INNER - 18 * mm
    height = max(sum(text.wrap(width, 400)[1] for text in texts) + 4 * mm, 10 * mm)
    canvas.setFillColor(HexColor(TINTS[kind]))
    canvas.rect(_MARGIN, top - height, _INNER, height, stroke=0, fill=1)
    canvas.setFillColor(HexColor(COLOURS[kind]))
    canvas.rect(_MARGIN, top - height, 1.5 * mm, height, stroke=0, fill=1)
    _draw_symbol(canvas, kind, _MARGIN + 8 * mm, top - 5 * mm)
    inset = 2.6 * mm if len(texts) == 1 else 1.6 * mm
    _put(canvas, texts, _MARGIN + 15 * mm, top - inset, (width, 200))
    return top - height - 4 * mm


def _draw_symbol(canvas: Canvas, kind: str, x: float, y: float) -> None:
    """Draw a tick, exclamation mark or cross: the verdict for those who see no colour."""
    canvas.circle(x, y, 3.4 * mm, stroke=0, fill=1)
    canvas.setStrokeColor(white)
    canvas.setLineWidth(1.6)
    canvas.setLineCap(1)
    r = 1.4 * mm
    strokes = {
        "ok": [(-r, 0, -0.3 * r, -0.8 * r), (-0.3 * r, -0.8 * r, r, 0.8 * r)],
        "flagged": [(0, 1.2 * r, 0, -0.3 * r), (0, -1.15 * r, 0, -1.16 * r)],
        "failed": [(-r, -r, r, r), (-r, r, r, -r)],
    }
    for x1, y1, x2, y2 in strokes[kind]:
        canvas.line(x + x1, y + y1, x + x2, y + y2)
    canvas.setLineWidth(0.5)


def _draw_result(canvas: Canvas, report: Report, top: float) -> float:
    """Draw the answer at the left, comparisons with the cohort at the right, then the ages."""
    left = 80 * mm
    answer: list[Flowable] = [
        _paragraph("Predicted age", 8.5, _MUTED),
        _paragraph(report.headline, 24, bold=True),
        _paragraph(report.interval, 9.5, bold=True),
    ]
    if report.gap:
        answer.append(_paragraph(report.gap, 9))
    if report.interval_note:
        answer.append(_paragraph(report.interval_note, 7, _MUTED))
    bottoms = [_put(canvas, answer, _MARGIN, top, (left, 45 * mm))]
    x, width = _MARGIN + left + 6 * mm, _INNER - left - 6 * mm
    ink = _PALE if report.muted else _INK
    compared: list[Flowable] = [_table(report.results, width, 8, ink, share=_NAMES_SHARE)]
    if report.corrected is not None:
        compared.append(_table([report.corrected], width, 7, _MUTED, share=_NAMES_SHARE))
    if report.muted:
        compared.insert(0, _paragraph(report.muted, 7.5, HexColor(COLOURS["flagged"])))
    bottoms.append(_put(canvas, compared, x, top, (width, 45 * mm)))
    bottom = min(bottoms)
    if report.age_line is not None:
        bottom = _draw_image(canvas, report.age_line, _MARGIN, bottom - 1 * mm, (_INNER, 18 * mm))
    return bottom - 2 * mm


def _draw_pictures(canvas: Canvas, report: Report, top: float, room: float) -> float:
    """Draw the scan at the left, its map at the right, captions below; what the room allows."""
    gap, bottoms = 4 * mm, [top]
    share = 0.57 if report.map is not None else 0.66
    for picture, x, width in (
        (report.planes, _MARGIN, share * (_INNER - gap)),
        (report.map, _MARGIN + share * (_INNER - gap) + gap, (1 - share) * (_INNER - gap)),
    ):
        if picture is None:
            continue
        bottom = _draw_image(canvas, picture, x, top, (width, room))
        caption = _paragraph(picture.caption, 6.5, _MUTED)
        bottoms.append(_put(canvas, [caption], x, bottom - 1 * mm, (width, 60)))
    return min(bottoms) - 3 * mm


def _draw_curves(canvas: Canvas, report: Report, top: float) -> float:
    """Draw volumes against age, pale where the cohort is no fair comparison."""
    picture = report.volume_curves
    if picture is None:
        return top
    if report.muted:
        picture = replace(picture, png=_fade(picture.png))
    bottom = _draw_image(canvas, picture, _MARGIN, top + 1 * mm, (_INNER, _CURVES - 8 * mm))
    caption = _paragraph(picture.caption, 6.5, _MUTED)
    return _put(canvas, [caption], _MARGIN, bottom - 1 * mm, (_INNER, 30)) - 2 * mm


class _Tables:
    """Tables in columns, limits below.

    Attributes
    ----------
    height : float
        What they take at their full size.
    """

    def __init__(self, report: Report) -> None:
        self._limits: list[Flowable] = [_paragraph("Limits", 9, _BLUE, bold=True)]
        self._limits += [_paragraph(text, 7, _MUTED, bullet=True) for text in report.limits]
        self._limits_height = _height(self._limits, _INNER) + 3 * mm
        columns = (
            (1.2, (("Scan checks", report.checks, 0.5),)),
            (
                0.95,
                (
                    ("How the prediction adds up", report.contributions, 0.55),
                    ("Volumes", report.volumes, 0.5),
                ),
            ),
            (1.15, (("Model", report.model, 0.46),)),
        )
        shown = [(share, parts) for share, parts in columns if any(rows for _, rows, _ in parts)]
        unit = (_INNER - _GAP * (len(shown) - 1)) / sum(share for share, _ in shown)
        self._columns: list[tuple[float, list[Flowable]]] = []
        for share, parts in shown:
            content: list[Flowable] = []
            for title, rows, names in parts:
                if rows:
                    content.append(_paragraph(title, 9, _BLUE, bold=True))
                    content.append(_table(rows, share * unit, 7.5, share=names))
            if parts is columns[-1][1] and report.cohort is not None:
                content += _cohort(report.cohort, share * unit, pale=bool(report.muted))
            self._columns.append((share * unit, content))
        tallest = max((_height(content, width) for width, content in self._columns), default=0.0)
        self.height = tallest + self._limits_height

    def draw(self, canvas: Canvas, top: float) -> None:
        """Draw them below the top and above the foot, smaller if need be."""
        room = max(top - _FLOOR - self._limits_height, 20 * mm)
        x, bottoms = _MARGIN, [top]
        for width, content in self._columns:
            bottoms.append(_put(canvas, content, x, top, (width, room)))
            x += width + _GAP
        lowest = min(bottoms) - 3 * mm
        _put(canvas, self._limits, _MARGIN, lowest, (_INNER, max(lowest - _FLOOR, 10 * mm)))


def _height(flowables: Sequence[Flowable], width: float) -> float:
    return float(sum(each.wrap(width, _HEIGHT)[1] for each in flowables))


def _cohort(picture: Picture, width: float, *, pale: bool) -> list[Flowable]:
    """Return the picture of the cohort and its caption, pale where it is no fair comparison."""
    png = _fade(picture.png) if pale else picture.png
    pixels_wide, pixels_high = ImageReader(io.BytesIO(png)).getSize()
    shown = min(width, 33 * mm)
    drawn = Image(io.BytesIO(png), shown, shown * pixels_high / pixels_wide)
    drawn.hAlign = "LEFT"
    return [drawn, _paragraph(picture.caption, 6.5, _MUTED)]


def _fade(png: bytes) -> bytes:
    """Mix a picture with white."""
    picture = PillowImage.open(io.BytesIO(png)).convert("RGB")
    stream = io.BytesIO()
    PillowImage.blend(picture, PillowImage.new("RGB", picture.size, "white"), 0.55).save(
        stream, "PNG"
    )
    return stream.getvalue()


def _table(
    rows: Sequence[Row], width: float, size: float, color: Color = _INK, share: float = 0.44
) -> Table:
    cells = [
        [
            _paragraph(row.name, size, _MUTED),
            [
                _paragraph(row.value, size, color, bold=color is _INK),
                *([_gauge(row.gauge)] if row.gauge is not None else []),
                *([_paragraph(row.note, size - 1, _MUTED)] if row.note else []),
            ],
        ]
        for row in rows
    ]
    # A page that is full is drawn smaller: on the left its tables stay in line with their titles.
    table = Table(cells, colWidths=[width * share, width * (1 - share)], hAlign="LEFT")
    table.setStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 2),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
            ("LINEBELOW", (0, 0), (-1, -2), 0.3, HexColor("#e6e8eb")),
        ]
    )
    return table


def _gauge(gauge: Gauge) -> Drawing:
    """Draw a bar with the normal range and a mark where the value lies."""
    width, height = 24 * mm, 1.6 * mm
    ink = _INK if gauge.is_normal else HexColor(COLOURS["failed"])
    parts = (
        (0.0, 0.0, width, height, HexColor("#e4e7eb")),
        (gauge.low * width, 0.0, (gauge.high - gauge.low) * width, height, HexColor("#9cc9e8")),
        (gauge.mark * width - 0.6, -0.6, 1.2, height + 1.2, ink),
    )
    drawing = Drawing(width, height + 1)
    for x, y, wide, high, colour in parts:
        drawing.add(Rect(x, y, wide, high, fillColor=colour, strokeColor=None))
    return drawing


def _draw_image(
    canvas: Canvas, picture: Picture, x: float, top: float, size: tuple[float, float]
) -> float:
    """Draw a picture at its own proportions inside a box; the bottom."""
    image = ImageReader(io.BytesIO(picture.png))
    pixels_wide, pixels_high = image.getSize()
    scale = min(size[0] / pixels_wide, size[1] / pixels_high)
    width, height = pixels_wide * scale, pixels_high * scale
    canvas.drawImage(image, x, top - height, width, height)
    return top - height
