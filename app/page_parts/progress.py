"""Stages, times, places in line, and a way out."""

import time

import streamlit as st

from brainage.serving.service import Job
from page_parts.server import get_service

STAGE_WORDS = {
    "model": "Opening the model",
    "locate": "Finding and checking the brain",
    "pictures": "Drawing pictures",
    "predict": "Predicting the age",
    "volumes": "Measuring volumes",
    "map": "Drawing the map",
    "report": "Writing the report",
}


def show_progress(jobs: list[Job]) -> None:
    """Show what each job is at until all have finished, then draw the page anew."""
    _follow(jobs)


@st.fragment(run_every=1.0)
def _follow(jobs: list[Job]) -> None:
    service = get_service()
    if all(job.finished for job in jobs):
        st.rerun()
    done = sum(job.finished for job in jobs)
    several = f"{done} of {len(jobs)} scans done"
    st.progress(_share(jobs), text=several if len(jobs) > 1 else jobs[0].shown)
    for job in jobs:
        words, seconds = describe(job, service.place(job)), time.monotonic() - job.submitted
        when = "" if job.finished else f", {seconds:.0f} s so far"
        if len(jobs) > 1:
            st.text(f"{job.shown}: {words}{when}")
        else:
            # The list below says which stage is at work; the seconds are those of all.
            st.text(f"At work{when}" if job.state == "running" else f"{words.capitalize()}{when}")
            _list_stages(job)
    if st.button("Cancel", icon=":material/cancel:", key="cancel"):
        for job in jobs:
            service.cancel(job)
        st.session_state.pop("jobs", None)
        st.rerun()


def _list_stages(job: Job) -> None:
    """All stages with their seconds: done, at work, to come."""
    done = dict(job.stages())
    lines = []
    for name, words in STAGE_WORDS.items():
        if name in done:
            lines.append(f":material/check: {words} :gray[{done[name]:.1f} s]")
        elif name == job.stage():
            lines.append(f":material/arrow_forward: **{words}** …")
        else:
            lines.append(f":material/radio_button_unchecked: :gray[{words}]")
    st.markdown("  \n".join(lines))


def describe(job: Job, place: int) -> str:
    """State of a job in a few words."""
    if job.state == "waiting":
        return f"waiting, place {place} in line" if place else "about to begin"
    if job.state == "running":
        return STAGE_WORDS.get(job.stage(), "Starting").lower()
    words = {"done": "done", "refused": "cannot be used", "broken": "was lost"}
    return words.get(job.state, "cancelled")


def _share(jobs: list[Job]) -> float:
    names = list(STAGE_WORDS)
    total = 0.0
    for job in jobs:
        if job.finished:
            total += 1.0
        elif (stage := job.stage()) in names:
            total += names.index(stage) / len(names)
    return total / len(jobs)
