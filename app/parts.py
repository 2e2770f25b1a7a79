"""Small pieces of the pages."""

import base64
from html import escape

import streamlit as st

from brainage.types import Json

_VERDICTS = {
    "ok": ("#0072B2", "✓", "Scan passed"),
    "flagged": ("#B35900", "!", "Look first"),
    "failed": ("#8A1C1C", "✕", "Scan failed"),
}


def picture(png: bytes, alternative: str, caption: str = "", width: str = "100%") -> None:
    """Draw a picture with words for those who cannot see it."""
    data = base64.b64encode(png).decode()
    below = f"<figcaption style='color:#555;font-size:.9rem'>{escape(caption)}</figcaption>"
    st.html(
        f"<figure style='margin:0'><img src='data:image/png;base64,{data}' "
        f"alt='{escape(alternative, quote=True)}' style='width:{width};border-radius:6px'>"
        f"{below if caption else ''}</figure>"
    )


def verdict(report: Json) -> None:
    """Say the verdict in colour, sign and words."""
    color, sign, word = _VERDICTS[report["verdict"]]
    st.html(
        f"<div role='status' style='border-left:6px solid {color};padding:.6rem 1rem;"
        f"background:#f6f7f8;border-radius:4px'><strong style='color:{color}'>{sign} {word}."
        f"</strong> {escape(report['verdict_words'])}.</div>"
    )


def rows(title: str, items: list[Json]) -> None:
    """Draw a table of names, values and remarks."""
    if not items:
        return
    cells = "".join(
        f"<tr><th scope='row' style='text-align:left;font-weight:400;color:#444;padding:.25rem "
        f"1rem .25rem 0;vertical-align:top'>{escape(item['name'])}</th><td style='padding:.25rem "
        f"0'><strong>{escape(item['value'])}</strong><br><span style='color:#666;font-size:.88rem'>"
        f"{escape(item['note'])}</span></td></tr>"
        for item in items
    )
    st.html(
        f"<table style='border-collapse:collapse;width:100%'><caption style='text-align:left;"
        f"font-weight:600;font-size:1.05rem;padding-bottom:.3rem'>{escape(title)}</caption>"
        f"{cells}</table>"
    )
