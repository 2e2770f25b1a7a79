"""The card and the tables of a result, as HTML."""

import pytest
import streamlit as st

from page_parts import parts

REPORT = {
    "tone": "flagged",
    "warnings": ["noise <b>"],
    "verdict_words": "Look at the scan before using the result",
    "headline": "57 years",
    "interval": "Nine of ten healthy people with this prediction are 46 to 68 years old.",
    "interval_note": "A range of true ages.",
    "gap": "7 years above the age given, 50: usual.",
}


@pytest.fixture
def html(monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(st, "html", written.append)
    return written


def test_card_says_verdict_and_warnings_then_age_interval_and_gap(html):
    parts.answer(REPORT)
    (card,) = html
    places = [card.index(REPORT[name]) for name in ("verdict_words", "headline", "interval", "gap")]
    assert places == sorted(places)
    assert card.index("noise &lt;b&gt;") < card.index("57 years")


def test_failed_scan_has_a_card_without_an_age(html):
    parts.answer(REPORT | {"headline": "", "tone": "failed"})
    assert "predicted-age" not in html[0]


@pytest.mark.parametrize(("mark", "words"), [(0.5, "inside"), (0.95, "outside")])
def test_bar_says_in_words_where_the_mark_lies(html, mark, words):
    gauge = {"low": 0.0, "high": 0.9, "mark": mark}
    row = {"name": "Noise", "value": "0.1", "note": "normal: at most 0.2", "gauge": gauge}
    parts.rows("Checks", [row])
    assert f"{words} the normal range" in html[0] and f"left:{100 * mark:.0f}%" in html[0]


def test_numbers_that_are_not_to_be_relied_on_are_pale(html):
    row = {"name": "Percentile", "value": "68", "note": ""}
    parts.rows("Gap", [row])
    parts.rows("Gap", [row], muted=True)
    assert ["italic" in one for one in html] == [False, True]
