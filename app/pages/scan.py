"""Scans in, verdicts and ages out."""

import streamlit as st

from page_parts.intake import show_intake
from page_parts.progress import show_progress
from page_parts.results import show_results


def _start_over() -> None:
    for name in list(st.session_state):
        del st.session_state[name]


jobs = st.session_state.get("jobs", [])
if not jobs or not all(job.finished for job in jobs):
    # Above an answer it would push the answer down.
    st.title("How old does this brain look?", anchor=False)
if not jobs:
    show_intake()
elif not all(job.finished for job in jobs):
    show_progress(jobs)
else:
    show_results(jobs, st.session_state.get("one_person", False))
    st.button("Examine another scan", on_click=_start_over, icon=":material/restart_alt:")
