"""DICOM series of uploaded zips: read aside, the best T1 offered first."""

from typing import Any

import streamlit as st

from brainage.serving.names import LOOK
from brainage.serving.service import Job, ServiceFullError, suffix_of
from brainage.types import Json
from page_parts.parts import clean_name
from page_parts.server import submit

_DICOM = (".zip", ".dcm")


def choose_series(files: list[Any]) -> list[Json] | None:
    """Series to take from each file: ``uid`` and ``name``; empty where there is none.

    Returns
    -------
    list of dict or None
        None as long as files are being read.
    """
    looks = _look(files)
    if looks is None:
        st.warning("Too many scans are waiting. Please come back in a few minutes.")
        return None
    if not all(job.finished for job in looks.values()):
        _follow(list(looks.values()))
        return None
    return [_ask(file, looks[file.file_id]) if file.file_id in looks else {} for file in files]


def _look(files: list[Any]) -> dict[str, Job] | None:
    """Jobs that list the series of DICOM files, begun where they were not; None: no place."""
    known: dict[str, Job] = st.session_state.get("looks", {})
    looks: dict[str, Job] = {}
    for file in files:
        if suffix_of(file.getbuffer()[:132].tobytes()) not in _DICOM:
            continue
        try:
            looks[file.file_id] = known.get(file.file_id) or submit(file.getvalue(), {}, LOOK)
        except ServiceFullError:
            return None
    st.session_state["looks"] = looks
    return looks


@st.fragment(run_every=0.5)
def _follow(jobs: list[Job]) -> None:
    if all(job.finished for job in jobs):
        st.rerun()
    st.caption("Reading which DICOM series there are …")


def _ask(file: Any, job: Job) -> Json:
    """Let the reader choose among usable series; a file without any is told of later."""
    offered: list[Json] = job.result.get("series", [])
    usable = [one for one in offered if not one["problem"]]
    if not usable:
        return {}
    name = clean_name(file.name)
    best = usable[0]
    if not best["looks_t1"]:
        st.warning(f"No series of {name} looks T1-weighted. Ages from other images mean nothing.")
    if len(usable) == 1:
        st.caption(f"Taken from {name}: {best['words']}.")
    else:
        place = st.selectbox(
            f"Series of {name}",
            range(len(usable)),
            format_func=lambda n: usable[n]["words"],
            help="The one that suits best comes first: T1-weighted, without contrast agent, fine.",
            key=f"series-{file.file_id}",
        )
        best = usable[place or 0]
    for one in offered:
        if one["problem"]:
            st.caption(f"Not usable: {one['words']}; {one['problem']}.")
    _offer_person(file.file_id, name, best)
    return {"uid": best["uid"], "name": best["words"].partition(":")[0].lower()}


def _offer_person(file_id: str, name: str, series: Json) -> None:
    """Offer age and sex of the header; they are filled in if the reader says so, never alone."""
    age, sex = series.get("age_years"), series.get("sex", "")
    found = [
        *([f"{age:.0f} years"] if age is not None else []),
        *([{"F": "female", "M": "male"}[sex]] if sex else []),
    ]
    if found:
        st.button(
            f"Use {', '.join(found)} from {name}",
            key=f"offer-{file_id}",
            on_click=_fill_in,
            args=(file_id, age, sex),
        )


def _fill_in(file_id: str, age: float | None, sex: str) -> None:
    if age is not None:
        st.session_state[f"age-{file_id}"] = float(age)
    if sex:
        st.session_state[f"sex-{file_id}"] = sex
