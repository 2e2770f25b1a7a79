"""Write reports to files, whole or not at all."""

import json
from pathlib import Path

from brainage.extras import check_extra
from brainage.files import atomic_write_bytes, atomic_write_text, remove_old, remove_unfinished
from brainage.report.content import Report
from brainage.report.page_html import render_html


def render_json(report: Report) -> str:
    """Return the report's numbers as JSON; what is not known is null."""
    return json.dumps(report.numbers, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_html(report: Report, path: Path) -> None:
    """Write the report as one HTML file that needs no other."""
    atomic_write_text(path, render_html(report))


def write_pdf(report: Report, path: Path) -> None:
    """Write the report as a PDF of one A4 page."""
    check_extra("typst", "report")
    from brainage.report.page_pdf import render_pdf

    atomic_write_bytes(path, render_pdf(report))


def write_json(report: Report, path: Path) -> None:
    """Write the report's numbers."""
    atomic_write_text(path, render_json(report))


def write_report(report: Report, stem: Path) -> tuple[Path, ...]:
    """Write ``STEM.html``, ``STEM.pdf`` and ``STEM.json``; returns the paths.

    Raises
    ------
    BrainageError
        If a file cannot be written.
    """
    check_extra("typst", "report")
    paths = tuple(stem.parent / f"{stem.name}.{kind}" for kind in ("html", "pdf", "json"))
    remove_unfinished(stem.parent)
    # Killed in between, one file of a scan is better than three of two scans.
    for path in paths:
        remove_old(path)
    for path, write in zip(paths, (write_html, write_pdf, write_json), strict=True):
        write(report, path)
    return paths
