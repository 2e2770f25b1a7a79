"""What the page asks for: files, what is known of the person, and which model."""

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from app.models import FoundModel, find_models
from app.names import MAP_METHOD, SAMPLE_AGE_YEARS
from app.parts import clean_name
from app.series import choose_series
from app.server import get_service, submit
from app.service import Job, ServiceFullError
from app.settings import ServerLimits
from brainage.types import Json

OLDEST_YEARS = 120.0
_SEXES = {"": "not given", "F": "female", "M": "male"}


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
        wants_map = st.checkbox("Add a map of what the network looked at", value=True)
        name = st.text_input(
            "Name to print on this report", max_chars=80, help="Left empty, the report has none."
        )
    left, right = st.columns([1, 1])
    ready = bool(entries) and chosen is not None
    if left.button("Examine", type="primary", disabled=not ready, width="stretch", key="examine"):
        _submit(_with_series(entries, chosen or []), model, wants_map, name, one_person)
    if right.button("Try the built-in sample", width="stretch", key="sample"):
        sample = Entry(b"", "built-in sample (a synthetic phantom)", SAMPLE_AGE_YEARS, "", True)
        _submit([sample], model, wants_map, "", False)


def _people(files: list[Any]) -> tuple[list[Entry], bool]:
    """Entries of the uploaded files, and whether they are of one person."""
    if not files:
        return [], False
    # What was typed in belongs to its file, whatever other files come and go.
    known: dict[str, Json] = st.session_state.setdefault("people", {})
    before = [known.get(file.file_id, {"age": None, "sex": ""}) for file in files]
    one_person = False
    if len(files) == 1:
        given = [_ask_one(files[0].file_id, before[0])]
    else:
        one_person = (
            st.radio("These scans are of", ("different people", "one person, over time"))
            != "different people"
        )
        given = _ask_many(files, before)
    known.update((file.file_id, row) for file, row in zip(files, given, strict=True))
    entries = [
        Entry(file.getvalue(), clean_name(file.name), row["age"], row["sex"])
        for file, row in zip(files, given, strict=True)
    ]
    return entries, one_person


def _ask_one(file_id: str, before: Json) -> Json:
    left, right = st.columns(2)
    age = left.number_input(
        "Age at the scan, years (optional)",
        min_value=0.0,
        max_value=OLDEST_YEARS,
        value=before["age"],
        step=0.5,
        format="%.1f",
        help="Needed for the gap. The prediction does not use it.",
        key=f"age-{file_id}",
    )
    sex = right.selectbox(
        "Sex (optional)",
        list(_SEXES),
        list(_SEXES).index(before["sex"]),
        format_func=_SEXES.__getitem__,
        help="For the report's JSON file. The prediction does not use it.",
        key=f"sex-{file_id}",
    )
    return {"age": age, "sex": sex}


def _ask_many(files: list[Any], before: list[Json]) -> list[Json]:
    st.write("Ages at the scans and sexes, if known. Double-click a cell to fill it in.")
    key = "ages " + " ".join(file.file_id for file in files)
    rows = [
        {"file": clean_name(file.name), "age": row["age"], "sex": row["sex"] or None}
        for file, row in zip(files, before, strict=True)
    ]
    # The editor begins anew where the rows that it was given change.
    given = st.data_editor(
        st.session_state.setdefault(f"first {key}", rows),
        column_config={
            "file": st.column_config.TextColumn("File", disabled=True),
            "age": st.column_config.NumberColumn(
                "Age, years", min_value=0.0, max_value=OLDEST_YEARS, step=0.1, format="%.1f"
            ),
            "sex": st.column_config.SelectboxColumn(
                "Sex", options=[sex for sex in _SEXES if sex], format_func=_SEXES.__getitem__
            ),
        },
        hide_index=True,
        width="stretch",
        placeholder="not given",
        key=key,
    )
    return [{"age": row["age"], "sex": row["sex"] or ""} for row in given]


def _with_series(entries: list[Entry], chosen: list[Json]) -> list[Entry]:
    return [
        replace(one, series=series["uid"], shown=f"{one.shown}, {series['name']}")
        if series
        else one
        for one, series in zip(entries, chosen, strict=True)
    ]


def _submit(
    entries: list[Entry], model: FoundModel, wants_map: bool, name: str, one_person: bool
) -> None:
    jobs: list[Job] = []
    for number, entry in enumerate(entries, start=1):
        argument = {
            "model": str(model.folder),
            "model_name": model.name,
            "label": "scan" if len(entries) == 1 else f"scan {number}",
            "age_years": entry.age_years,
            "sex": entry.sex,
            "person_name": name,
            "map_method": MAP_METHOD if wants_map else "",
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
