"""The PDF: one page whatever it holds, with tags for those who have it read out."""

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from pypdf import PdfReader

from brainage.report import Findings, ModelIdentity, Picture, Report, Row, Typed, build_report
from brainage.report.checks import _NAMES
from brainage.report.content import RESEARCH_ONLY
from brainage.report.page_pdf import render_pdf

DAY = date(2026, 1, 2)
REFERENCE = {"source": "held_out", "cells": [[age, 1, 5] for age in range(20, 80, 5)]}
FACTS = {"cohort": {"n_train": 100, "train_age_range_years": [20.0, 80.0]}, "reference": REFERENCE}
MODEL = ModelIdentity("oasis", "brainage version 3", "ab" * 32, FACTS)
FINDINGS = Findings(
    "scan", "flagged", ("noise is high", "thick slices"), "raw head", {"noise": 0.2}, MODEL,
    57.0, (46.0, 68.0), ood_percentile=40.0, age_years=50.0, sex="F",
    volumes_ml={"grey": 700.0, "white": 500.0, "fluid": 300.0},
)  # fmt: skip
PICTURES = ("planes", "map", "age_line", "cohort", "volume_curves")
needs_poppler = pytest.mark.skipif(
    not shutil.which("pdftotext"), reason="no pdftotext (apt-get install poppler-utils)"
)
# Markup of Typst, quotes, and letters that a sans of Europe lacks.
ODD = (
    '#panic("x")',
    "*a* _b_ $x$ @ref",
    "\\u{41} \\",
    "= a",
    "山田太郎",
    "محمد",
    "Ελλη",
    "\x1b[0m",
)


def draw(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def make(typed: Typed = Typed(), **changes: Any) -> Report:  # noqa: B008
    """A report with all its pictures."""
    report = build_report(replace(FINDINGS, **changes), typed, made_on=DAY)
    sizes = ((120, 90), (90, 100), (142, 17), (62, 60), (142, 24))
    drawn = {
        name: Picture(draw(*size), f"words for {name}", f"below {name}")
        for name, size in zip(PICTURES, sizes, strict=True)
    }
    return replace(report, **drawn, contributions=(Row("Ventricles", "+20.0 years"),))


def read(pdf: bytes) -> PdfReader:
    reader = PdfReader(io.BytesIO(pdf))
    assert len(reader.pages) == 1
    return reader


def text_of(pdf: bytes) -> str:
    return " ".join(read(pdf).pages[0].extract_text().split())


def pdftotext(pdf: bytes, folder: Path, *options: str) -> str:
    (folder / "page.pdf").write_bytes(pdf)
    command = ["pdftotext", *options, folder / "page.pdf", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tags_of(pdf: bytes) -> list[dict[str, Any]]:
    """Elements of the tree of tags, in order."""

    def walk(element: Any) -> Iterator[dict[str, Any]]:
        element = element.get_object()
        if isinstance(element, list):
            for one in element:
                yield from walk(one)
        elif isinstance(element, dict):
            yield element
            yield from walk(element.get("/K", []))

    return [one for one in walk(read(pdf).root_object["/StructTreeRoot"]) if "/S" in one]


def test_page_is_tagged_by_the_standard_with_title_and_language():
    root = read(render_pdf(make())).root_object
    assert root["/MarkInfo"]["/Marked"].value and root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"].value
    packet = root["/Metadata"].get_data().decode()
    assert "<pdfuaid:part>1</pdfuaid:part>" in packet and "brainage-scan-2026-01-02" in packet


def test_headings_name_the_parts_in_the_order_of_the_page():
    tags = tags_of(render_pdf(make()))
    titles = [(tag["/S"], tag["/T"]) for tag in tags if re.fullmatch(r"/H\d", tag["/S"])]
    assert titles == [
        ("/H1", "Brain age report"), ("/H2", "Look at the scan before using the result"),
        ("/H2", "Predicted age"), ("/H2", "Scan checks"), ("/H2", "How the prediction adds up"),
        ("/H2", "Volumes"), ("/H2", "Model"), ("/H2", "Limits"),
    ]  # fmt: skip


def test_tables_have_headed_columns_and_lists_their_items():
    report = make()
    kinds = [tag["/S"] for tag in tags_of(render_pdf(report))]
    assert kinds.count("/Table") == 5 and kinds.count("/TH") == 10
    assert kinds.count("/L") == 2 and kinds.count("/LI") == len(report.warnings + report.limits)


def test_every_picture_and_bar_has_words():
    report = make()
    figures = [tag["/Alt"] for tag in tags_of(render_pdf(report)) if tag["/S"] == "/Figure"]
    drawn = [words for words in figures if words.startswith("words")]
    assert sorted(drawn) == sorted(f"words for {name}" for name in PICTURES)
    bars = [row.gauge for row in report.checks if row.gauge is not None]
    told = ["inside" if bar.is_normal else "outside" for bar in bars]
    assert set(told) == {"inside", "outside"}
    assert [words.split()[0] for words in figures if words not in drawn] == told


def test_text_is_read_in_the_order_of_the_page():
    report = make()
    text = text_of(render_pdf(report))
    parts = [RESEARCH_ONLY, report.verdict_words, "noise is high", "57 years", report.interval]
    parts += [report.gap, "below planes", "below map", "below volume_curves", "Scan checks"]
    parts += ["Grey matter", "Weights, SHA-256", "below cohort", report.limits[-1], "Page 1 of 1"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("odd", ODD)
def test_text_is_never_read_as_markup(odd):
    model = replace(MODEL, name=odd, version=odd)
    report = make(Typed(odd, odd, odd), label=odd, reasons=(odd,), model=model)
    read(render_pdf(report))
    if odd.isascii() and odd.isprintable():
        assert text_of(render_pdf(report)).count(odd) == 7


@needs_poppler
def test_texts_of_any_alphabet_can_be_copied(tmp_path):
    said = pdftotext(render_pdf(make(Typed("山田太郎 Ελλη"))), tmp_path)
    assert "山田太郎 Ελλη" in said


def test_lone_halves_of_letters_do_no_harm():
    assert "a?b" in text_of(render_pdf(make(label="a\ud800b")))


def test_same_report_gives_the_same_bytes_with_two_fonts_alone():
    pdf = render_pdf(make(Typed("山")))
    assert pdf == render_pdf(make(Typed("山")))
    fonts = read(pdf).pages[0]["/Resources"]["/Font"].values()
    names = {font.get_object()["/BaseFont"].partition("+")[2] for font in fonts}
    assert names == {"DejaVuSans", "DejaVuSans-Bold", "LastResortHE-Regular"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"age_years": None, "interval_years": None, "ood_percentile": None},
        {"verdict": "failed", "measures": {}, "volumes_ml": {}},
        {"reasons": ("a very long reason " * 12,) * 9},
        {"model": ModelIdentity("m" * 300, "v" * 300, "0" * 64, {}), "label": "W" * 300},
        {"measures": dict.fromkeys(_NAMES, 9e9)},
        {"reasons": ("W" * 300,) * 3, "series": "3: " + "long words " * 90},
    ],
)
@needs_poppler
def test_no_text_leaves_the_page_or_lies_on_another(changes, tmp_path):
    said = pdftotext(render_pdf(make(Typed("W" * 80, "i" * 40), **changes)), tmp_path, "-bbox")
    boxes = [
        [float(number) for number in found]
        for found in re.findall(r'xMin="(.+?)" yMin="(.+?)" xMax="(.+?)" yMax="(.+?)"', said)
    ]
    assert len(boxes) > 100
    assert all(36 < x0 < x1 < 560 and 25 < y0 < y1 < 825 for x0, y0, x1, y1 in boxes)
    for one, other in combinations(boxes, 2):
        wide, high = (
            min(one[2 + axis], other[2 + axis]) - max(one[axis], other[axis]) for axis in (0, 1)
        )
        assert wide < 1 or high < 0.4 * min(one[3] - one[1], other[3] - other[1]), (one, other)


def test_pictures_take_the_room_that_the_text_leaves():
    def height_of_planes(report: Report) -> float:
        (found,) = (
            tag for tag in tags_of(render_pdf(report)) if tag.get("/Alt") == "words for planes"
        )
        (box,) = (one["/BBox"] for one in found["/A"] if "/BBox" in one)
        return (float(box[3]) - float(box[1])) * 25.4 / 72

    short = replace(make(), map=None, volume_curves=None, cohort=None, contributions=())
    assert 70 < height_of_planes(short) < 77  # mm, with all the room that they may take
    assert 30 < height_of_planes(make(reasons=("a long reason " * 20,) * 4)) < 60


def test_pages_leave_no_memory_behind():
    def memory_mb() -> float:
        return psutil.Process().memory_info().rss / 2**20

    full = make(reasons=("a very long reason " * 12,) * 9)
    render_pdf(full)
    before = memory_mb()
    for _ in range(5):
        render_pdf(full)
    assert memory_mb() - before < 100  # 200 if each page stayed
