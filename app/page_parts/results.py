"""Verdict first, then the age; one scan, or a table of many."""

import csv
import io
import zipfile
from typing import TYPE_CHECKING

import streamlit as st

from brainage.serving.names import REPORT
from brainage.serving.service import Job
from brainage.serving.timeline import draw_timeline
from brainage.types import Json
from page_parts.explained import CHECKS, FAILED, GAPS
from page_parts.parts import answer, explain, picture, rows
from page_parts.progress import STAGE_WORDS
from page_parts.viewer import show_viewer

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

_COLUMNS = (
    "age_years",
    "predicted_age_years",
    "interval_low_years",
    "interval_high_years",
    "brain_age_gap_years",
    "gap_percentile",
    "ood_percentile",
)
_HEADINGS: "dict[str, ColumnConfig | str | None]" = {
    "scan": "No.",
    "file": "File",
    "checks": "Checks",
    "age_years": st.column_config.NumberColumn("Age", format="%.1f"),
    "predicted_age_years": st.column_config.NumberColumn("Predicted age", format="%.1f"),
    "interval_low_years": st.column_config.NumberColumn("from", format="%.1f"),
    "interval_high_years": st.column_config.NumberColumn("to", format="%.1f"),
    "brain_age_gap_years": st.column_config.NumberColumn("Gap, raw", format="%+.1f"),
    "gap_percentile": st.column_config.NumberColumn("Percentile of the gap", format="%.0f"),
    "ood_percentile": st.column_config.NumberColumn("More usual scans, %", format="%.1f"),
    "warnings": "Read this first",
}


def show_results(jobs: list[Job], one_person: bool) -> None:
    """Show one scan at length, or all in a table and one of them at length."""
    if len(jobs) == 1:
        _show_job(jobs[0])
        return
    if one_person:
        _show_timeline(jobs)
    _show_batch(jobs)
    chosen = st.selectbox(
        "Show one scan", range(len(jobs)), format_func=lambda i: f"{i + 1}: {jobs[i].shown}"
    )
    _show_job(jobs[chosen])


def table_row(number: int, job: Job) -> dict[str, object]:
    """Tabulate a job; a scan without an age has empty cells."""
    numbers = job.result.get("numbers", {})
    result = numbers.get("result") or {}
    warnings = job.reason or "; ".join(job.result.get("warnings", []))
    return {
        "scan": number,
        "file": job.shown,
        "checks": job.result.get("tone", "failed"),
        **{name: result.get(name) for name in _COLUMNS},
        "warnings": warnings,
    }


def _show_job(job: Job) -> None:
    st.text(job.shown)
    if job.state != "done":
        words = {
            "refused": "This file cannot be used",
            "broken": "The examination broke off",
            "cancelled": "Cancelled",
        }
        st.error(f"{words[job.state]}.", icon=":material/block:")
        st.text(job.reason)
        st.caption("No age is given. The server and other scans are not affected.")
        return
    report = job.result
    answer(report)
    if not report["headline"]:
        st.markdown(FAILED)
    _show_downloads(job)
    if report["headline"]:
        show_viewer(job, key=f"viewer-{id(job)}")
        _show_comparison(job)
    _show_pictures(job)
    _show_tables(job)
    times = ", ".join(f"{STAGE_WORDS.get(name, name).lower()} {s:.1f} s" for name, s in job.seconds)
    st.caption(f"Times: {times}.")


def _show_comparison(job: Job) -> None:
    """Gap, percentile and the cohort: pale where the scan is unlike it."""
    report, muted = job.result, bool(job.result["muted"])
    given = report["numbers"]["result"]["age_years"] is not None
    with st.expander("Compared with the model's cohort", expanded=given and not muted):
        if muted:
            st.warning(report["muted"], icon=":material/compare_arrows:")
        left, right = st.columns([3, 2], gap="large")
        with left:
            rows("Against the age given", report["results"], muted)
            if report["corrected"]:
                rows("Apart from the raw gap", [report["corrected"]], muted)
            if given:
                explain(GAPS)
            picture(job.files["age_line.png"], report["age_line"]["alternative"])
        with right:
            if report["cohort"]:
                text = report["cohort"]
                png = job.files["cohort.png"]
                picture(png, text["alternative"], text["caption"], muted=muted)
            else:
                st.caption("This model keeps no held-out people to be set beside.")


def _show_pictures(job: Job) -> None:
    report = job.result
    if not report["planes"]:
        return
    failed = not report["headline"]
    with st.expander("Pictures of the report", expanded=failed):
        for name in ("planes", "map"):
            if text := report[name]:
                picture(job.files[f"{name}.png"], text["alternative"], text["caption"])
        rows("How the prediction adds up, by the map", report["contributions"])


def _show_tables(job: Job) -> None:
    report = job.result
    with st.expander("Checks of the scan, with their normal ranges"):
        rows("Checks of the scan", report["checks"])
        explain(CHECKS)
    if report["volumes"]:
        with st.expander("Brain volumes"):
            rows("Brain volumes", report["volumes"])
            if text := report["volume_curves"]:
                png, muted = job.files["volume_curves.png"], bool(report["muted"])
                picture(png, text["alternative"], text["caption"], muted=muted)
    with st.expander("Model and limits"):
        rows("Model", report["model"])
        for limit in report["limits"]:
            st.markdown(f"- {limit}")


def _show_downloads(job: Job) -> None:
    kinds = {"pdf": "application/pdf", "html": "text/html", "json": "application/json"}
    for column, (kind, mime) in zip(st.columns(3), kinds.items(), strict=True):
        column.download_button(
            f"Report as {kind.upper()}",
            job.files[f"{REPORT}.{kind}"],
            f"{job.result['file_name']}.{kind}",
            mime,
            on_click="ignore",
            width="stretch",
            key=f"{kind}-{id(job)}",
        )


def _show_timeline(jobs: list[Job]) -> None:
    numbers = [job.result["numbers"] for job in jobs if job.state == "done"]
    points = [each["result"] for each in numbers if each["result"]]
    points = [point for point in points if point["age_years"] is not None]
    if len(points) < 2:
        st.caption("A timeline needs two scans with an age each.")
        return
    st.header("Over time", anchor=False)
    if doubt := _doubt_person(numbers):
        st.warning(doubt, icon=":material/person_alert:")
    # The retests tell nothing of flagged scans, or of such as are unlike the cohort's.
    is_fair = not any(each["warnings"] for each in numbers)
    limit = numbers[0]["model"]["smallest_detectable_change_years"] if is_fair else None
    picture(*draw_timeline(points, limit))


def _doubt_person(numbers: list[Json]) -> str:
    """Say why scans cannot be of one person over time; empty where nothing speaks against it."""
    sexes = {(each["result"] or {}).get("sex") for each in numbers} - {None}
    if len(sexes) > 1:
        return "Scans of both sexes are no scans of one person."
    codes = [each["scan_sha256_begins"] for each in numbers]
    return "One scan came twice: nothing changes in it." if len({*codes}) < len(codes) else ""


def _show_batch(jobs: list[Job]) -> None:
    table = [table_row(number, job) for number, job in enumerate(jobs, start=1)]
    st.header(f"{len(jobs)} scans", anchor=False)
    st.dataframe(table, hide_index=True, width="stretch", column_config=_HEADINGS, placeholder="–")
    left, right = st.columns(2)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    left.download_button(
        "Table as CSV",
        text.getvalue(),
        "brainage.csv",
        "text/csv",
        on_click="ignore",
        width="stretch",
    )
    right.download_button(
        "All reports as ZIP",
        _zip(jobs),
        "brainage-reports.zip",
        "application/zip",
        on_click="ignore",
        width="stretch",
    )
    with st.expander("Contact sheet"):
        columns = st.columns(3)
        for number, job in enumerate(jobs):
            with columns[number % 3]:
                st.text(f"{number + 1}: {job.shown}")
                if "planes.png" in job.files:
                    picture(job.files["planes.png"], f"planes of scan {number + 1}")
                else:
                    st.caption("no picture")


def _zip(jobs: list[Job]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, job in enumerate(jobs, start=1):
            for kind in ("pdf", "html", "json"):
                if content := job.files.get(f"{REPORT}.{kind}"):
                    name = job.result.get("file_name", "brainage")
                    archive.writestr(f"{number:02d}-{name}.{kind}", content)
    return stream.getvalue()
