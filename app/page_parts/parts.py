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


def picture(
    png: bytes, alternative: str, caption: str = "", width: str = "100%", *, muted: bool = False
) -> None:
    """Draw a picture with words for those who cannot see it; pale if it is not to be relied on."""
    data = base64.b64encode(png).decode()
    below = f"<figcaption style='color:#555;font-size:.9rem'>{escape(caption)}</figcaption>"
    st.html(
        f"<figure style='margin:0'><img src='data:image/png;base64,{data}' "
        f"alt='{escape(alternative, quote=True)}' style='width:{width};border-radius:6px;"
        f"opacity:{0.45 if muted else 1}'>"
        f"{below if caption else ''}</figure>"
    )


def answer(report: Json) -> None:
    """Draw one card: verdict in colour, sign and words, warnings, age, interval, gap."""
    color, sign = _VERDICTS[report["tone"]]
    reasons = "".join(f"<li>{escape(text)}</li>" for text in report["warnings"])
    listed = f"<ul style='margin:.2rem 0 0;padding-left:1.2rem'>{reasons}</ul>"
    st.html(
        "<section aria-label='Answer' style='border:1px solid #d0d7de;"
        f"border-left:6px solid {color};border-radius:6px;padding:.7rem 1rem .8rem'>"
        f"<div role='status'><strong style='color:{color}'>"
        f"<span aria-hidden='true'>{sign}</span> {escape(report['verdict_words'])}.</strong>"
        f"{listed if reasons else ''}</div>{_result(report)}</section>"
    )


def _result(report: Json) -> str:
    if not report["headline"]:
        return ""
    gap = f"<p style='margin:.2rem 0 0'>{escape(report['gap'])}</p>" if report["gap"] else ""
    return (
        "<div style='margin-top:.6rem'><span style='color:#57606a'>Predicted age</span>"
        f"<div class='predicted-age' style='font-size:2.6rem;font-weight:700;line-height:1.15'>"
        f"{escape(report['headline'])}</div>"
        f"<p style='margin:.2rem 0 0'><strong>{escape(report['interval'])}</strong></p>{gap}"
        f"<p style='margin:.3rem 0 0;color:#57606a;font-size:.88rem'>"
        f"{escape(report['interval_note'])}</p></div>"
    )


def rows(title: str, items: list[Json], muted: bool = False) -> None:
    """Draw a table of names, values, bars and remarks; pale where it is not to be relied on."""
    if not items:
        return
    ink = "color:#6a737d;font-style:italic" if muted else "color:#222"
    cells = "".join(
        f"<tr><th scope='row' style='text-align:left;font-weight:400;color:#444;padding:.25rem "
        f"1rem .25rem 0;vertical-align:top'>{escape(item['name'])}</th><td style='padding:.25rem "
        f"0;{ink}'><strong>{escape(item['value'])}</strong>{_gauge(item.get('gauge'))}"
        f"<span style='color:#666;font-size:.88rem;display:block'>{escape(item['note'])}</span>"
        "</td></tr>"
        for item in items
    )
    st.html(
        f"<table style='border-collapse:collapse;width:100%'><caption style='text-align:left;"
        f"font-weight:600;font-size:1.05rem;padding-bottom:.3rem'>{escape(title)}</caption>"
        f"{cells}</table>"
    )


def _gauge(gauge: Json | None) -> str:
    """Draw a bar with the normal range in blue and a mark where the value lies."""
    if gauge is None:
        return ""
    inside = gauge["low"] <= gauge["mark"] <= gauge["high"]
    ends = f"left:{100 * gauge['low']:.0f}%;right:{100 * (1 - gauge['high']):.0f}%"
    mark = f"left:{100 * gauge['mark']:.0f}%;background:{'#222' if inside else '#8A1C1C'}"
    return (
        f"<span role='img' aria-label='{'inside' if inside else 'outside'} the normal range' "
        "style='display:block;position:relative;width:9rem;height:10px;background:#e4e7eb;"
        "margin:.3rem 0'>"
        f"<span style='position:absolute;top:0;bottom:0;background:#9cc9e8;{ends}'></span>"
        "<span style='position:absolute;top:-2px;bottom:-2px;width:4px;margin-left:-2px;"
        f"{mark}'></span></span>"
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
