"""A report as one HTML page without scripts and without any other file; it prints on one page."""

import base64
from collections.abc import Sequence
from html import escape

from brainage.report.checks import Gauge, Row
from brainage.report.content import RESEARCH_ONLY, Picture, Report

SYMBOLS = {"ok": "✓", "flagged": "!", "failed": "✕"}
COLOURS = {"ok": "#176b2f", "flagged": "#8a5a00", "failed": "#cf222e"}
TINTS = {"ok": "#e6f4ea", "flagged": "#fff4d6", "failed": "#ffebe9"}

# More of them get smaller print, without bars.
_SPACIOUS_CHECKS = 10
_STYLE = """
@page{size:A4;margin:9mm}
*{box-sizing:border-box}
body{font:14px/1.4 system-ui,"Helvetica Neue",Arial,sans-serif;color:#1f2328;background:#fff;
margin:0 auto;max-width:900px;padding:20px}
header{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:baseline;gap:4px 16px;
border-bottom:3px solid #0072b2;padding-bottom:6px}
h1{font-size:22px;margin:0}h2{font-size:13px;margin:12px 0 3px;color:#0b4f7a}
.meta{color:#57606a;font-size:12px}.subject{margin:4px 0;font-size:12px;color:#57606a}
.notice{background:#1f2328;color:#fff;font-weight:600;font-size:12px;padding:3px 10px;margin:6px 0}
.verdict{display:flex;gap:12px;padding:6px 12px;border-left:6px solid}
.verdict b.symbol{font-size:20px;line-height:1.1}
.verdict p{margin:0;font-weight:600}.verdict ul{margin:2px 0 0;padding-left:18px;font-size:12px}
.result{display:grid;grid-template-columns:minmax(250px,5fr) 6fr;gap:4px 24px;margin-top:8px}
.age{font-size:34px;font-weight:700;line-height:1.1}.age small{display:block;font-size:13px;
font-weight:400;color:#57606a}
.answer p{margin:2px 0}.answer .why{font-size:11px;color:#57606a}
.corrected{border-top:1px dashed #8c959f;margin-top:4px;padding-top:2px}
.muted td,.muted th,.muted b{color:#6a737d;font-style:italic}
.muted img{opacity:.45}
.advice{font-size:12px;border-left:4px solid #8a5a00;padding-left:8px;margin:4px 0}
img{max-width:100%;display:block}figure{margin:0}figcaption{font-size:11px;color:#57606a}
.wide{grid-column:1/-1}
.columns{display:grid;grid-template-columns:4fr 3.1fr;gap:4px 12px;margin-top:6px}
.columns figure:only-child{max-width:70%}
.tables{display:grid;grid-template-columns:1.25fr 1fr 1.1fr;gap:0 18px}
table{border-collapse:collapse;width:100%;font-size:12px}
th{font-weight:400;text-align:left;color:#57606a;padding:1px 8px 1px 0;vertical-align:top}
td{padding:1px 0;overflow-wrap:anywhere;vertical-align:top}td small{color:#57606a;display:block}
.limits{font-size:11px;color:#57606a;margin:2px 0;padding-left:16px}
.gauge{display:block;position:relative;width:84px;height:8px;background:#e4e7eb;margin:3px 0}
.gauge s{position:absolute;top:0;bottom:0;background:#9cc9e8}
.gauge i{position:absolute;top:-2px;bottom:-2px;width:3px;margin-left:-1px;background:#1f2328}
.gauge.out i{background:#cf222e}
@media(max-width:640px){.columns,.tables,.result{grid-template-columns:1fr}
.columns figure:only-child{max-width:100%}}
@media print{body{padding:0;font-size:10px;max-width:none}h2{margin:5px 0 1px;font-size:11px}
h1{font-size:17px}.age{font-size:24px}.notice{font-size:9px;margin:3px 0}
.meta,.subject,.verdict ul,table,.advice{font-size:8.5px}
.answer .why,figcaption,.limits,.age small{font-size:8px}
.gauge{height:5px;margin:2px 0;width:70px}
.wide img{max-height:16mm}.curves img{max-height:26mm;width:auto}.cohort img{max-height:36mm}
body,main,.columns figure{display:flex;flex-direction:column}body{height:278mm}
main{flex:1;min-height:0}.columns{margin-top:3px;flex:1;min-height:30mm;max-height:82mm;
grid-template-rows:minmax(0,1fr)}.columns:empty{display:none}
.columns figure{min-height:0}
.columns img{flex:1 1 0;height:0;min-height:0;object-fit:contain;object-position:left top}
.dense{grid-template-columns:2fr 1fr 1fr}.dense table{font-size:7px;line-height:1.15}
.dense th{white-space:nowrap}.dense td small{display:inline}.dense .gauge{display:none}
.dense th,.dense td{padding-block:0}.dense .cohort img{max-height:28mm}
.curves:has(+.dense) img{max-height:18mm}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def render_html(report: Report) -> str:
    """Write the report as a page without scripts or requests to anywhere."""
    name = f"<b>{escape(report.person_name)}</b>, " if report.person_name else ""
    limits = "".join(f"<li>{escape(text)}</li>" for text in report.limits)
    subject = escape(", ".join(report.subject))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(report.file_name)}</title><style>{_STYLE}</style></head>"
        f"<body><header><h1>Brain age report</h1><div class=meta>{name}"
        f"{escape(report.label)}, report of {report.made_on}</div></header>"
        f'{f"""<p class="subject">{subject}</p>""" if subject else ""}'
        f'<p class="notice">{RESEARCH_ONLY}</p>'
        f"<main>{_verdict(report)}{_result(report)}{_pictures(report)}{_curves(report)}"
        f"{_tables(report)}"
        f'<h2>Limits</h2><ul class="limits">{limits}</ul></main>'
        f'<footer class="notice">{RESEARCH_ONLY}</footer></body></html>\n'
    )


def _verdict(report: Report) -> str:
    kind = report.tone
    reasons = "".join(f"<li>{escape(text)}</li>" for text in report.warnings)
    return (
        f'<section class="verdict" style="border-color:{COLOURS[kind]};background:{TINTS[kind]}">'
        f'<b class="symbol" aria-hidden="true" style="color:{COLOURS[kind]}">{SYMBOLS[kind]}</b>'
        f"<div><p>{escape(report.verdict_words)}</p>"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div></section>"
    )


def _result(report: Report) -> str:
    if not report.headline:
        return ""
    corrected = ""
    if report.corrected is not None:
        corrected = f'<div class="corrected">{_table([report.corrected])}</div>'
    advice = f'<p class="advice">{escape(report.muted)}</p>' if report.muted else ""
    gap = f"<p>{escape(report.gap)}</p>" if report.gap else ""
    line = f'<div class="wide">{_figure(report.age_line)}</div>'
    return (
        '<section class="result"><div class="answer"><div class="age"><small>predicted age</small>'
        f"{escape(report.headline)}</div><p><b>{escape(report.interval)}</b></p>{gap}"
        f'<p class="why">{escape(report.interval_note)}</p></div>'
        f"<div>{advice}<div{_pale(report)}>{_table(report.results)}{corrected}</div></div>"
        f"{line}</section>"
    )


def _pale(report: Report) -> str:
    return ' class="muted"' if report.muted else ""


def _pictures(report: Report) -> str:
    return f'<div class="columns">{_figure(report.planes)}{_figure(report.map)}</div>'


def _curves(report: Report) -> str:
    muted = " muted" if report.muted else ""
    drawn = _figure(report.volume_curves)
    return drawn and f'<div class="curves{muted}">{drawn}</div>'


def _tables(report: Report) -> str:
    cohort = ""
    if report.cohort is not None:
        muted = " muted" if report.muted else ""
        cohort = f'<div class="cohort{muted}">{_figure(report.cohort)}</div>'
    columns = (
        _section("Scan checks", report.checks),
        _section("How the prediction adds up", report.contributions)
        + _section("Volumes", report.volumes),
        _section("Model", report.model) + cohort,
    )
    dense = " dense" if len(report.checks) > _SPACIOUS_CHECKS else ""
    content = "".join(f"<div>{part}</div>" for part in columns if part)
    return f'<div class="tables{dense}">{content}</div>'


def _section(title: str, rows: Sequence[Row]) -> str:
    return f"<section><h2>{title}</h2>{_table(rows)}</section>" if rows else ""


def _figure(picture: Picture | None) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture.png).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    image = f'<img alt="{escape(picture.alternative)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}{caption}</figure>"


def _table(rows: Sequence[Row]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(row.name)}</th><td>{escape(row.value)}{_gauge(row.gauge)}'
        f"{f' <small>{escape(row.note)}</small>' if row.note else ''}</td></tr>"
        for row in rows
    )
    return f"<table>{lines}</table>"


def _gauge(gauge: Gauge | None) -> str:
    """Draw a bar with the normal range and a mark where the value lies."""
    if gauge is None:
        return ""
    words = "inside" if gauge.is_normal else "outside"
    return (
        f'<span class="gauge{"" if gauge.is_normal else " out"}" role="img" '
        f'aria-label="{words} the normal range">'
        f'<s style="left:{100 * gauge.low:.0f}%;right:{100 * (1 - gauge.high):.0f}%"></s>'
        f'<i style="left:{100 * gauge.mark:.0f}%"></i></span>'
    )
