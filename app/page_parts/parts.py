"""Small pieces of the pages."""

import base64
from collections.abc import Mapping
from html import escape

import streamlit as st

from brainage.types import Json

NAME_LENGTH = 40
_VERDICTS = {
    "ok": ("#0072B2", "✓"),
    "flagged": ("#A34700", "!"),
    "failed": ("#8A1C1C", "✕"),
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
    color, sign = _VERDICTS[report["tone"]]
    reasons = "".join(f"<li>{escape(text)}</li>" for text in report["warnings"])
    listed = f"<ul style='margin:.3rem 0 0'>{reasons}</ul>"
    st.html(
        f"<div role='status' style='border-left:6px solid {color};padding:.7rem 1rem;"
        f"background:#f6f7f8;border-radius:4px;font-size:1.05rem'><strong style='color:{color}'>"
        f"<span aria-hidden='true'>{sign}</span> {escape(report['verdict_words'])}.</strong>"
        f"{listed if reasons else ''}</div>"
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


def clean_name(name: str) -> str:
    """Shorten an upload's name for the page: the last part, printable."""
    last = name.replace("\\", "/").rpartition("/")[2]
    text = "".join(letter for letter in last if letter.isprintable())
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 1]}…"


def explain(words: Mapping[str, str]) -> None:
    """Offer plain words for the terms of a table."""
    with st.popover("What do these words mean?", icon=":material/help:"):
        for term, meaning in words.items():
            st.markdown(f"**{term}**: {meaning}")
