"""A report as one HTML page without scripts and without any other file."""

import base64
from collections.abc import Sequence
from html import escape

from brainage.report.content import RESEARCH_ONLY, Picture, Report, Row

SYMBOLS = {"ok": "✓", "flagged": "!", "failed": "✕"}
COLOURS = {"ok": "#176b2f", "flagged": "#8a5a00", "failed": "#cf222e"}
TINTS = {"ok": "#e6f4ea", "flagged": "#fff4d6", "failed": "#ffebe9"}

_STYLE = """
@page{size:A4;margin:10mm}
*{box-sizing:border-box}
body{font:14px/1.4 system-ui,"Helvetica Neue",Arial,sans-serif;color:#1f2328;background:#fff;
margin:0 auto;max-width:860px;padding:20px 20px 48px}
header{display:flex;justify-content:space-between;align-items:baseline;gap:16px;
border-bottom:3px solid #0072b2;padding-bottom:8px}
h1{font-size:22px;margin:0}h2{font-size:13px;margin:14px 0 4px;color:#0b4f7a}
.meta{color:#57606a;text-align:right;font-size:12px}
.notice{background:#1f2328;color:#fff;font-weight:600;font-size:12px;padding:3px 10px;margin:0}
footer.notice{position:fixed;bottom:0;left:0;right:0;text-align:center}
.verdict{display:flex;gap:12px;padding:8px 12px;margin:12px 0;border-left:6px solid}
.verdict b.symbol{font-size:20px;line-height:1.1}
.verdict p{margin:0;font-weight:600}.verdict ul{margin:2px 0 0;padding-left:18px}
.result{display:grid;grid-template-columns:minmax(220px,1fr) 2fr;gap:4px 24px;align-items:center}
.age{font-size:34px;font-weight:700;line-height:1.1}.age small{display:block;font-size:13px;
font-weight:400;color:#57606a}
.corrected{border-top:1px dashed #8c959f;margin-top:4px;padding-top:2px;color:#57606a}
img{max-width:100%;display:block}figure{margin:0}figcaption{font-size:11px;color:#57606a}
.wide{grid-column:1/-1}
.columns{display:grid;grid-template-columns:5fr 3fr;gap:4px 20px}
.tables{display:grid;grid-template-columns:1fr 1fr 1.3fr;gap:0 20px}
table{border-collapse:collapse;width:100%;font-size:12px}
th{font-weight:400;text-align:left;color:#57606a;padding:2px 8px 2px 0;vertical-align:top}
td{padding:2px 0;overflow-wrap:anywhere}td small{color:#57606a}
.limits{font-size:11px;color:#57606a;margin:4px 0;padding-left:16px}
@media(max-width:640px){.columns,.tables,.result{grid-template-columns:1fr}}
@media print{body{padding:0;font-size:11px;max-width:none}h2{margin:8px 0 2px}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def render_html(report: Report) -> str:
    """Write the report as a page without scripts or requests to anywhere."""
    name = f"<div><b>{escape(report.person_name)}</b></div>" if report.person_name else ""
    limits = "".join(f"<li>{escape(text)}</li>" for text in report.limits)
    tables = "".join(
        f"<section><h2>{title}</h2>{_table(rows)}</section>"
        for title, rows in (
            ("Scan checks", report.checks),
            ("Volumes", report.volumes),
            ("Model", report.model),
        )
        if rows
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>Brain age report, {escape(report.label)}</title><style>{_STYLE}</style></head>"
        f"<body><header><h1>Brain age report</h1><div class=meta>{name}"
        f"{escape(report.label)}, {report.made_on}</div></header>"
        f'<p class="notice">{RESEARCH_ONLY}</p>'
        f"<main>{_verdict(report)}{_result(report)}{_pictures(report)}"
        f'<div class="tables">{tables}</div>'
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
    line = f'<div class="wide">{_figure(report.age_line)}</div>'
    return (
        '<section class="result"><div class="age"><small>predicted age</small>'
        f"{escape(report.headline)}<small>{escape(report.interval)}</small></div>"
        f"<div>{_table(report.results)}{corrected}</div>{line}</section>"
    )


def _pictures(report: Report) -> str:
    return f'<div class="columns">{_figure(report.planes)}{_figure(report.cohort)}</div>'


def _figure(picture: Picture | None) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture.png).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    image = f'<img alt="{escape(picture.alternative)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}{caption}</figure>"


def _table(rows: Sequence[Row]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(row.name)}</th><td>{escape(row.value)}'
        f"{f' <small>{escape(row.note)}</small>' if row.note else ''}</td></tr>"
        for row in rows
    )
    return f"<table>{lines}</table>"
