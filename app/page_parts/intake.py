"""What the page asks for: files, what is known of the person, and which model."""

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from brainage.serving.model_list import FoundModel, find_models
from brainage.serving.names import SAMPLE_AGE_YEARS
from brainage.serving.service import Job, ServiceFullError
from brainage.serving.settings import ServerLimits
from brainage.types import DEFAULT_MAP, Json
from page_parts.parts import clean_name
from page_parts.series import choose_series
from page_parts.server import get_service, orientation, submit

OLDEST_YEARS = 120.0
_SEXES = {"": "", "F": "female", "M": "male"}


@dataclass(frozen=True)
class Entry:
    """One scan to examine. `shown` is for the reader's eyes: no path, no log, no report."""

    content: bytes
    shown: str
    age_years: float | None
    sex: str
    sample: bool = False
    series: str = ""


def show_intake() -> None:
    """Ask for scans; put them in line once the reader says so."""
    models = find_models()
    if not models:
        st.error("No model was found. Put a bundle into `models/` or set BRAINAGE_MODELS.")
        return
    limits = ServerLimits()
    st.markdown(
        "Give a T1-weighted MRI of the head. You get a check of the scan, a predicted age with "
        "its interval, pictures, and a one-page report."
    )
    files = st.file_uploader(
        "Scans: NIfTI (.nii, .nii.gz), or a zip of a DICOM examination",
        accept_multiple_files=True,
        help=f"At most {limits.files} files of {limits.upload_mb} MB. They are read, not kept.",
    )
    if len(files) > limits.files:
        st.error(f"At most {limits.files} files at a time: {len(files)} came.")
        return
    entries, one_person = _people(files)
    chosen = choose_series(files)
    with st.expander("Model, map and report"):
        model = st.selectbox("Model", models, format_func=lambda found: found.name)
        wants_map = st.checkbox("Add a map of what makes this brain look older", value=True)
        typed = _ask_for_print(len(files) > 1, one_person)
    left, right = st.columns([1, 1])
    ready = bool(entries) and chosen is not None
    if left.button("Examine", type="primary", disabled=not ready, width="stretch", key="examine"):
        _submit(_with_series(entries, chosen or []), model, wants_map, typed, one_person)
    if right.button("Try the built-in sample", width="stretch", key="sample"):
        sample = Entry(b"", "built-in sample (a synthetic phantom)", SAMPLE_AGE_YEARS, "", True)
        _submit([sample], model, wants_map, {}, False)


def _ask_for_print(several: bool, one_person: bool) -> dict[str, str]:
    """Ask what is printed on reports; nothing of it is taken from a file.

    A name is not that of different people, and a date not that of several scans.
    """
    if several and not one_person:
        st.caption("Name, study id and date are printed for one scan or for one person's scans.")
        return {}
    left, middle, right = st.columns(3)
    typed = {
        "person_name": left.text_input(
            "Name to print on this report", max_chars=80, help="Left empty, the report has none."
        ),
        "study_id": middle.text_input(
            "Study id to print", max_chars=40, help="Also in the names of the report's files."
        ),
    }
    if not several:
        typed["scan_date"] = right.text_input("Date of the scan to print", max_chars=40)
    return typed


def _people(files: list[Any]) -> tuple[list[Entry], bool]:
    """Entries of the uploaded files, and whether they are of one person."""
    if not files:
        return [], False
    several, one_person = len(files) > 1, False
    if several:
        kinds = ("different people", "one person, over time")
        one_person = st.radio("These scans are of", kinds, horizontal=True) == kinds[1]
    entries = []
    for file in files:
        name = clean_name(file.name)
        entries.append(Entry(file.getvalue(), name, *_ask(file.file_id, name, several)))
    return entries, one_person


def _ask(file_id: str, name: str, several: bool) -> tuple[float | None, str]:
    """Age and sex of one file, kept while others come and go; among several its name is shown."""
    if several:
        place, left, right = st.columns([2, 1, 1], vertical_alignment="center")
        place.text(name)
    else:
        left, right = st.columns(2)
    of = f" of {name}" if several else ""
    age = left.number_input(
        f"Age at the scan{of}, years (optional)",
        min_value=0.0,
        max_value=OLDEST_YEARS,
        value=None,
        step=0.5,
        format="%.1f",
        placeholder="age, years" if several else None,
        help=None if several else "Needed for the gap. The prediction does not use it.",
        label_visibility="collapsed" if several else "visible",
        key=f"age-{file_id}",
    )
    sex = right.selectbox(
        f"Sex{of} (optional)",
        list(_SEXES),
        format_func=lambda value: _SEXES[value] or ("sex not given" if several else "not given"),
        help=None if several else "Printed on the report. The prediction does not use it.",
        label_visibility="collapsed" if several else "visible",
        key=f"sex-{file_id}",
    )
    return age, sex


def _with_series(entries: list[Entry], chosen: list[Json]) -> list[Entry]:
    return [
        replace(one, series=series["uid"], shown=f"{one.shown}, {series['name']}")
        if series
        else one
        for one, series in zip(entries, chosen, strict=True)
    ]


def _submit(
    entries: list[Entry],
    model: FoundModel,
    wants_map: bool,
    typed: dict[str, str],
    one_person: bool,
) -> None:
    jobs: list[Job] = []
    for number, entry in enumerate(entries, start=1):
        argument = {
            "model": str(model.folder),
            "model_name": model.name,
            "label": "scan" if len(entries) == 1 else f"scan {number}",
            "age_years": entry.age_years,
            "sex": entry.sex,
            **typed,
            "map_method": DEFAULT_MAP if wants_map else "",
            "orientation": orientation(),
            "sample": entry.sample,
            "series": entry.series,
        }
        try:
            job = submit(entry.content, argument)
        except ServiceFullError:
            for other in jobs:
                get_service().cancel(other)
            st.error("Too many scans are waiting. Please come back in a few minutes.")
            return
        job.shown = entry.shown
        jobs.append(job)
    st.session_state["jobs"], st.session_state["one_person"] = jobs, one_person
    st.rerun()
