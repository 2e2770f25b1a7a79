"""Three linked planes of a scan in the browser: NiiVue, as a Streamlit component."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from brainage.serving.names import IMAGE, MAP
from brainage.serving.service import Job
from page_parts.server import publish

_HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def _sources() -> tuple[str, str, str]:
    names = ("viewer.html", "viewer.css", "viewer.js")
    html, css, js = ((_HERE / name).read_text(encoding="utf-8") for name in names)
    return html, css, js


def show_viewer(job: Job, key: str) -> None:
    """Show a finished job's scan, with its map if there is one."""
    html, css, js = _sources()
    mount = st.components.v2.component("brainage_viewer", html=html, css=css, js=js)
    address = publish(job)
    shown = job.result.get("overlay", {})
    radiological = job.result["orientation"] == "radiological"
    data: dict[str, Any] = {
        "library": "/viewer/niivue.js",
        "image": f"{address}/{IMAGE}",
        "overlay": f"{address}/{MAP}" if MAP in job.files else None,
        "unit": shown.get("unit", ""),
        "limit": shown.get("limit", 1.0),
        "legend": [shown.get("low", ""), shown.get("high", "")],
        "radiological": radiological,
    }
    answer = mount(data=data, key=key, on_webgl_change=lambda: None)
    if getattr(answer, "webgl", None) is False:
        side = "right" if radiological else "left"
        st.caption(
            f"This browser has no WebGL: a simpler viewer. The patient's left is on the {side}."
        )
        st.iframe(f"{address}/fallback.html", height=420)
