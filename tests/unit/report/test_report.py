import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pytest

from brainage.report import (
    AttributionMap,
    Findings,
    ModelIdentity,
    build_report,
    predicted_findings,
    render_html,
    render_json,
    write_report,
)
from brainage.report.content import RESEARCH_ONLY
from brainage.report.page_html import COLOURS, TINTS
from brainage.report.page_pdf import render_pdf
from brainage.types import Volume

DAY = date(2026, 1, 2)
FACTS = {
    "cohort": {"n_train": 100, "train_age_range_years": [20.0, 80.0]},
    "metrics": {"mae_years": 6.4, "n": 50},
    "network": "cnn3d_light",
    "method": "lfnn_l",
    "reference": {
        "source": "held_out",
        "cells": [[50, gap, 2] for gap in range(-20, 20, 2)],
    },
}
MODEL = ModelIdentity("oasis", "brainage version 3", "ab" * 32, FACTS)


def findings(**changes):
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -90, -120, -70
    data = np.random.default_rng(0).random((24, 28, 24), dtype=np.float32)
    mask = np.zeros(data.shape, dtype=bool)
    mask[5:19, 5:22, 5:19] = True
    usual = Findings(
        label="scan",
        verdict="ok",
        reasons=(),
        recognised="raw head",
        measures={"noise": 0.05},
        model=MODEL,
        predicted_age_years=57.0,
        interval_years=(46.0, 68.0),
        ood_percentile=40.0,
        age_years=50.0,
        volumes_ml={"grey": 700.0, "white": 500.0, "fluid": 300.0},
        image=Volume(data, affine),
        mask=mask,
    )
    return replace(usual, **changes)


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_raw_gap_comes_before_the_corrected_one_which_stands_apart():
    report = build_report(findings(), made_on=DAY)
    assert report.headline == "57.0 years" and report.interval == "90 % interval 46.0 to 68.0 years"
    assert [row.value for row in report.results] == ["50.0 years", "+7.0 years", "68"]
    assert report.corrected is None  # everyone in this cohort is 50: no line to correct by
    page = render_html(report)
    assert page.index("Brain-age gap, raw") < page.index("Percentile of the gap")


def test_failed_scan_shows_no_age_anywhere():
    report = build_report(findings(verdict="failed", reasons=("no T1 scan",)), made_on=DAY)
    for text in (render_html(report), render_json(report)):
        assert "57.0" not in text and "46.0" not in text
    assert report.age_line is None and report.cohort is None and report.corrected is None
    assert "no age is given" in report.verdict_words and report.warnings == ("no T1 scan",)


def test_reasons_are_in_words_on_the_page_and_name_their_measure_in_the_json_file():
    reason = "thick slices (slice_mm 5, expected at most 4)"
    report = build_report(findings(verdict="flagged", reasons=(reason,)))
    assert report.warnings == ("thick slices (5, expected at most 4)",)
    assert json.loads(render_json(report))["warnings"] == [reason]


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (50.0, "older than the age, which lies in"),
        (80.0, "younger than the age, which lies outside"),
    ],
)
def test_gap_is_said_to_be_usual_or_not(age, words):
    gap = build_report(findings(age_years=age)).results[1]
    assert words in gap.note


def test_percentile_says_of_whom():
    note = build_report(findings()).results[2].note
    assert note == "68 % of 20 held-out people within 2.5 years have a smaller gap"


def test_warnings_come_before_the_result():
    page = render_html(build_report(findings(verdict="flagged", reasons=("noise is high",))))
    assert page.index("noise is high") < page.index("57.0 years")


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"ood_percentile": 99.0}, "unlike the training scans, 99 % of"),
        ({"age_years": 15.0}, "outside the training ages"),
        ({"model": replace(MODEL, facts={"cohort": {"synthetic": True}})}, "synthetic phantoms"),
        ({"reasons": tuple("abcdef")}, "and 2 more"),
    ],
)
def test_what_makes_a_result_doubtful_is_said(changes, warning):
    report = build_report(findings(**changes))
    assert warning in " ".join(report.warnings)
    assert report.tone == "flagged" and "read this first" in report.verdict_words


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"age_years": None, "interval_years": None, "ood_percentile": None},
        {"verdict": "failed"},
        {"image": None, "mask": None, "volumes_ml": {}, "measures": {}},
        {"reasons": ("a very long reason " * 12,) * 9, "verdict": "flagged"},
        {"model": ModelIdentity("m" * 200, "v" * 200, "0" * 64, {})},
    ],
)
def test_pdf_is_one_page_that_says_what_it_is_for(changes):
    report = build_report(findings(**changes), made_on=DAY)
    pdf = render_pdf(report)
    assert pdf.startswith(b"%PDF") and pages_of(pdf) == 1
    assert render_html(report).count(RESEARCH_ONLY) == 2


def test_same_report_gives_the_same_bytes():
    report = build_report(findings(), made_on=DAY)
    assert render_pdf(report) == render_pdf(report)


def test_map_is_a_third_row():
    image = findings().image
    assert image is not None
    signed = AttributionMap(Volume(image.data - 0.5, image.affine), "smoothgrad", "years per SD")
    report = build_report(findings(attribution=signed))
    assert report.planes is not None and "smoothgrad map" in report.planes.caption
    assert len(report.planes.png) > 1.2 * len(build_report(findings()).planes.png)


def test_no_name_unless_typed_in_and_then_as_text():
    assert render_json(build_report(findings())).count('"name": null') == 1
    report = build_report(findings(), person_name="<script>Łukasz\x00 & Иван</script>" + "x" * 99)
    assert len(report.person_name) == 80 and "\x00" not in report.person_name
    assert "<script" not in render_html(report)
    assert pages_of(render_pdf(report)) == 1


def test_page_asks_no_other_host_and_every_picture_has_words():
    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            values = dict(attributes)
            assert tag not in ("script", "link", "iframe")
            if tag == "img":
                assert values["src"].startswith("data:") and values["alt"]

    page = render_html(build_report(findings()))
    Reader().feed(page)
    assert "http://" not in page and "https://" not in page


@pytest.mark.parametrize("kind", list(COLOURS))
def test_verdict_can_be_read_by_eyes_that_see_little_contrast(kind):
    def luminance(colour):
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    # WCAG 2.2, success criterion 1.4.3.
    assert (luminance(TINTS[kind]) + 0.05) / (luminance(COLOURS[kind]) + 0.05) >= 4.5


def test_json_holds_the_numbers_and_null_for_the_unknown():
    values = json.loads(render_json(build_report(findings(), made_on=DAY)))
    result = values["result"]
    assert (result["predicted_age_years"], result["brain_age_gap_years"]) == (57.0, 7.0)
    assert result["gap_percentile"] == pytest.approx(67.5) and result["gap_percentile_n"] == 20
    assert result["brain_age_gap_corrected_years"] is None
    assert values["model"]["weights_sha256"] == "ab" * 32 and values["notice"] == RESEARCH_ONLY
    assert values["made_on"] == "2026-01-02"


def test_scan_unlike_the_training_scans_is_warned_of_first_in_every_file():
    unlike = findings(verdict="flagged", reasons=("noise is high",), ood_percentile=100.0)
    report = build_report(unlike)
    assert "all of held-out ones" in report.warnings[0] and report.warnings[1] == "noise is high"
    page, values = render_html(report), json.loads(render_json(report))
    assert page.index("unlike the training scans") < page.index("noise is high")
    assert page.index("noise is high") < page.index("57.0 years")
    assert values["warnings"] == list(report.warnings)
    assert values["quality"]["reasons"] == ["noise is high"]


def test_share_of_more_usual_scans_is_not_rounded_up_to_what_would_be_warned_of():
    report = build_report(findings(ood_percentile=98.9))
    assert report.warnings == ()
    assert [row.value for row in report.checks if "More usual" in row.name] == ["98 %"]


def test_row_of_a_prediction_table_makes_a_report_without_pictures(tmp_path):
    row = {
        "predicted_age_years": 60.0, "age_years": float("nan"), "sex": float("nan"),
        "interval_low_years": float("nan"), "interval_high_years": float("nan"),
    }  # fmt: skip
    report = build_report(predicted_findings(row, "flagged", "noise; blur", MODEL, 0.9))
    assert report.planes is None and report.warnings == ("noise", "blur")
    assert report.interval.startswith("no interval")
    paths = write_report(report, tmp_path / "deep" / "page")
    assert [path.name for path in paths] == ["page.html", "page.pdf", "page.json"]
    assert all(path.stat().st_size > 300 for path in paths)


@pytest.mark.parametrize(("constant", "warned"), [(6.0, True), (15.0, False)])
def test_a_model_that_does_not_beat_the_constant_is_doubted(constant, warned):
    baselines = {"constant": {"mae_years": constant}}
    facts = FACTS | {"metrics": FACTS["metrics"] | {"baselines": baselines}}
    report = build_report(findings(model=replace(MODEL, facts=facts)))
    assert ("not beat the constant" in " ".join(report.warnings)) == warned
