"""Report on one scan: what was checked, what was predicted, and how far to trust it.

`examine_scan` or the app makes `Findings`; `build_report` puts them into words and pictures;
`write_report` makes files of them. Research use only.
"""

from brainage.report.checks import Gauge, Row
from brainage.report.content import Picture, Report, build_report
from brainage.report.examine import ExamineOptions, examine_scan, get_ready, predicted_findings
from brainage.report.findings import AttributionMap, Findings, ModelIdentity, Typed, identify_model
from brainage.report.page_html import render_html
from brainage.report.write import render_json, write_html, write_json, write_pdf, write_report

__all__ = [
    "AttributionMap",
    "ExamineOptions",
    "Findings",
    "Gauge",
    "ModelIdentity",
    "Picture",
    "Report",
    "Row",
    "Typed",
    "build_report",
    "examine_scan",
    "get_ready",
    "identify_model",
    "predicted_findings",
    "render_html",
    "render_json",
    "write_html",
    "write_json",
    "write_pdf",
    "write_report",
]
