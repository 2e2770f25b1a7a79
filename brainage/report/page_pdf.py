"""A report as a PDF of one A4 page, by ReportLab.

Type is Helvetica, which every reader has; text beyond Western European letters is set in DejaVu
Sans, whose file Matplotlib carries.
"""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepInFrame, Paragraph, Table

from brainage.report.content import RESEARCH_ONLY, Picture, Report, Row
from brainage.report.page_html import COLOURS, TINTS

_WIDTH, _HEIGHT = A4
_MARGIN = 14 * mm
_INNER = _WIDTH - 2 * _MARGIN
_FOOTER = 9 * mm
_INK, _MUTED, _BLUE = HexColor("#1f2328"), HexColor("#57606a"), HexColor("#0072b2")
_FALLBACK = "DejaVuSans"
# Names of results are short, their remarks long.
_NAMES_SHARE = 0.34


def render_pdf(report: Report) -> bytes:
    """Write the report as one A4 page; the same report gives the same bytes."""
    _register_fallback()
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(f"Brain age report, {report.label}")
    canvas.setSubject(RESEARCH_ONLY)
    canvas.setCreator("brainage")
    top = _draw_head(canvas, report)
    top = _draw_verdict(canvas, report, top)
    if report.headline:
        top = _draw_result(canvas, report, top)
    top = _draw_pictures(canvas, report, top)
    _draw_tables(canvas, report, top)
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
    canvas.drawRightString(right, top - 16, f"{report.label}, {report.made_on}")
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
    """Draw age and interval at the left, gaps at the right, the line of ages below."""
    canvas.setFillColor(_MUTED)
    canvas.setFont("Helvetica", 9)
    canvas.drawString(_MARGIN, top - 8, "Predicted age")
    canvas.setFillColor(_INK)
    canvas.setFont("Helvetica-Bold", 27)
    canvas.drawString(_MARGIN, top - 34, report.headline)
    _put(canvas, [_paragraph(report.interval, 9, _MUTED)], _MARGIN, top - 39, (62 * mm, 40))
    x, width = _MARGIN + 68 * mm, _INNER - 68 * mm
    rows = _table(report.results, width, 8.5, share=_NAMES_SHARE)
    bottom = _put(canvas, [rows], x, top, (width, 110))
    if report.corrected is not None:
        canvas.setStrokeColor(HexColor("#8c959f"))
        canvas.setDash(2, 2)
        canvas.line(x, bottom - 2, x + width, bottom - 2)
        canvas.setDash()
        rows = _table([report.corrected], width, 7.5, _MUTED, share=_NAMES_SHARE)
        bottom = _put(canvas, [rows], x, bottom - 4, (width, 60))
    bottom = min(bottom, top - 54)
    if report.age_line is not None:
        bottom = _draw_image(canvas, report.age_line, _MARGIN, bottom - 1 * mm, (_INNER, 26 * mm))
    return bottom - 4 * mm


def _draw_pictures(canvas: Canvas, report: Report, top: float) -> float:
    """Draw planes at the left, the cohort at the right, captions below."""
    left, gap = 112 * mm, 6 * mm
    if report.cohort is None:
        left = _INNER
    bottoms = [top]
    for picture, x, width in (
        (report.planes, _MARGIN, min(left, 130 * mm)),
        (report.cohort, _MARGIN + left + gap, _INNER - left - gap),
    ):
        if picture is None:
            continue
        bottom = _draw_image(canvas, picture, x, top, (width, _picture_room(report)))
        caption = _paragraph(picture.caption, 7, _MUTED)
        bottoms.append(_put(canvas, [caption], x, bottom - 1 * mm, (width, 40)))
    return min(bottoms) - 4 * mm


def _picture_room(report: Report) -> float:
    """Return the height of the planes that leaves the tables their place."""
    return 101 * mm if report.warnings else 107 * mm


def _draw_tables(canvas: Canvas, report: Report, top: float) -> None:
    """Draw checks, volumes and model side by side, limits below, all above the foot."""
    tables = [
        (title, rows, share)
        for title, rows, share in (
            ("Scan checks", report.checks, 1.2),
            ("Volumes", report.volumes, 0.85),
            ("Model", report.model, 1.25),
        )
        if rows
    ]
    gap, floor = 6 * mm, _FOOTER + 6 * mm
    limits: list[Flowable] = [_paragraph("Limits", 9, _BLUE, bold=True)]
    limits += [_paragraph(text, 7, _MUTED, bullet=True) for text in report.limits]
    limits_height = sum(text.wrap(_INNER, 400)[1] for text in limits)
    free = _INNER - gap * (len(tables) - 1)
    total, x, bottoms = sum(share for *_, share in tables), _MARGIN, [top]
    for title, rows, share in tables:
        width = free * share / total
        names = {"Scan checks": 0.66, "Model": 0.5}.get(title, 0.44)
        content = [_paragraph(title, 9, _BLUE, bold=True), _table(rows, width, 7.5, share=names)]
        room = max(top - floor - limits_height - 3 * mm, 20 * mm)
        bottoms.append(_put(canvas, content, x, top, (width, room)))
        x += width + gap
    lowest = min(bottoms) - 3 * mm
    _put(canvas, limits, _MARGIN, lowest, (_INNER, max(lowest - floor, 10 * mm)))


def _table(
    rows: Sequence[Row], width: float, size: float, color: Color = _INK, share: float = 0.44
) -> Table:
    cells = [
        [
            _paragraph(row.name, size, _MUTED),
            [
                _paragraph(row.value, size, color, bold=color is _INK),
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
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
            ("LINEBELOW", (0, 0), (-1, -2), 0.3, HexColor("#e6e8eb")),
        ]
    )
    return table


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
