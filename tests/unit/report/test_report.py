import io
import json
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from brainage.inference.attribution import LEGENDS
from brainage.report import (
    AttributionMap,
    Findings,
    ModelIdentity,
    Typed,
    build_report,
    content,
    pictures,
    predicted_findings,
    render_html,
    render_json,
    write_report,
)
from brainage.report.content import RESEARCH_ONLY
from brainage.report.page_html import COLOURS, TINTS
from brainage.report.page_pdf import render_pdf
from brainage.types import MAP_METHODS, Volume

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


def mapped(method="integrated_gradients"):
    """Findings with a map."""
    regions = (("ventricles", 20.0), ("all other", 5.0)) if method[0] == "i" else ()
    image = findings().image
    unit = {"smoothgrad": "years per SD"}.get(method, "years per cm³")
    volume = Volume(image.data - 0.5, image.affine)
    return findings(attribution=AttributionMap(volume, method, unit, 57.0, 32.0, regions))


MAP = mapped().attribution
PICTURES = ("draw_planes", "draw_map", "draw_age_line", "draw_cohort", "draw_volumes")


@pytest.fixture(scope="module")
def dot() -> bytes:
    """A picture of one pixel."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def drawn():
    """Ask for pictures as they are: they take a second."""


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch, dot):
    if "drawn" not in request.fixturenames:
        for name in PICTURES:
            monkeypatch.setattr(content, name, lambda *_: dot)


def pages_of(pdf: bytes) -> int:
    return len(PdfReader(io.BytesIO(pdf)).pages)


def test_answer_is_an_age_in_whole_years_and_sentences():
    report = build_report(findings(predicted_age_years=57.4))
    assert report.headline == "57 years"
    assert (
        report.interval == "Nine of ten healthy people with this prediction are 46 to 68 years old."
    )
    assert report.gap == (
        "That is 7 years above the age given, 50. "
        "This is usual for the model: 50 lies within the range."
    )
    page = render_html(report)
    assert page.index("57 years") < page.index(report.interval) < page.index("Scan checks")


def test_limits_say_whose_interval_it_is():
    own = " ".join(build_report(findings()).limits)
    facts = FACTS | {"left_out_calibration": {"scores": []}}
    left_out = " ".join(build_report(findings(model=replace(MODEL, facts=facts))).limits)
    assert "like those of the model's cohort" in own and "left out" not in own
    assert "scanners left out of training, 20 to 80 years" in left_out


def test_gap_is_not_spoken_of_without_an_age():
    assert build_report(findings(age_years=None)).gap == ""


def test_raw_gap_comes_before_the_corrected_one_which_stands_apart():
    report = build_report(findings(), made_on=DAY)
    assert [row.value for row in report.results] == ["50.0 years", "+7.0 years", "68"]
    assert report.corrected is None  # everyone in this cohort is 50: no line to correct by
    page = render_html(report)
    assert page.index("Brain-age gap, raw") < page.index("Percentile of the gap")


def test_failed_scan_shows_no_age_anywhere():
    report = build_report(findings(verdict="failed", reasons=("no T1 scan",)), made_on=DAY)
    for text in (render_html(report), render_json(report)):
        assert "57 years" not in text and "57.0" not in text and "46.0" not in text
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
        (50.0, "7 years above the age given, 50. This is usual"),
        (80.0, "23 years below the age given, 80. This is unusual"),
        (57.2, "That is no different from the age given, 57.2. This is usual"),
    ],
)
def test_gap_is_said_to_be_usual_or_not(age, words):
    assert words in build_report(findings(age_years=age)).gap


@pytest.mark.parametrize(
    ("changes", "muted"),
    [
        ({}, False),
        ({"ood_percentile": 99.0}, True),
        ({"verdict": "flagged", "reasons": ("noise",)}, True),
        ({"verdict": "failed"}, False),
    ],
)
def test_comparisons_with_a_cohort_that_is_another_are_pale_and_say_what_to_do(changes, muted):
    report = build_report(findings(**changes))
    assert ("brainage calibrate" in report.muted) == muted
    assert ('class="muted"' in render_html(report)) == muted
    assert ("cannot be told" in report.gap) == muted


def test_percentile_says_of_whom():
    note = build_report(findings()).results[2].note
    assert note == (
        "68 % of 20 people kept out of training, within 2.5 years of this age, have a lower gap"
    )


def test_warnings_come_before_the_result():
    page = render_html(build_report(findings(verdict="flagged", reasons=("noise is high",))))
    assert page.index("noise is high") < page.index("57 years")


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
        {"attribution": MAP},
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


@pytest.mark.slow
def test_page_with_all_its_pictures_is_one(drawn):
    assert pages_of(render_pdf(build_report(mapped()))) == 1


def test_map_that_adds_up_says_to_what_against_which_reference():
    report = build_report(mapped())
    assert "template alone would get 32 years" in report.map.caption
    assert "whole map adds 25 years, which gives the predicted 57." in report.map.caption
    assert [row.value for row in report.contributions] == [
        "32.0 years", "+20.0 years", "+5.0 years", "57.0 years"
    ]  # fmt: skip
    assert "Ventricles" in render_html(report)


def test_gradient_has_words_of_its_own_and_no_contributions():
    report = build_report(mapped("smoothgrad"))
    assert "brighter here would look older" in report.map.caption
    assert "adds years" not in report.map.caption and report.contributions == ()


@pytest.mark.parametrize("method", MAP_METHODS)
def test_scale_of_a_map_has_numbers_and_its_own_words(method, monkeypatch):
    written = []
    monkeypatch.setattr(pictures, "to_png", lambda figure: written.append(figure) or b"")
    pictures.draw_map(mapped(method))
    texts = [text.get_text() for axes in written[0].axes for text in axes.texts]
    assert set(LEGENDS[method]) <= set(texts)
    labels = [tick.get_text() for tick in written[0].axes[-1].get_xticklabels()]
    assert len(labels) == 3 and float(labels[2]) > 0 and labels[0] == "−" + labels[2][1:]


def test_pictures_of_both_conventions_are_mirrored_and_say_so():
    ways = ("radiological", "neurological")
    planes = [build_report(findings(), orientation=way).planes for way in ways]
    assert len({pictures.draw_planes(findings(), way) for way in ways}) == 2
    assert ["on the right" in one.caption for one in planes] == [True, False]


def test_study_id_and_date_are_printed_as_typed_and_name_the_files():
    typed = Typed(study_id="A/17 b", scan_date="spring 2025")
    report = build_report(findings(sex="F", code="3f9a21"), typed, made_on=DAY)
    assert report.file_name == "brainage-A-17-b-2026-01-02"
    page = render_html(report)
    assert "study id A/17 b, female, 50 years old, scanned spring 2025, scan 3f9a21" in page
    assert json.loads(render_json(report))["study_id"] == "A/17 b"


def test_files_of_two_people_have_two_names_that_name_nobody():
    names = {
        build_report(findings(code=code), Typed(person_name="Ida"), made_on=DAY).file_name
        for code in ("3f9a21", "77ab00")
    }
    assert len(names) == 2 and not any("Ida" in name for name in names)


def test_no_name_unless_typed_in_and_then_as_text():
    assert render_json(build_report(findings())).count('"name": null') == 1
    typed = Typed("<script>Łukasz\x00 & Иван</script>" + "x" * 99)
    report = build_report(findings(), typed)
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
    assert page.index("noise is high") < page.index("57 years")
    assert values["warnings"] == list(report.warnings)
    assert values["quality"]["reasons"] == ["noise is high"]


def test_share_of_more_usual_scans_is_not_rounded_up_to_what_would_be_warned_of():
    report = build_report(findings(ood_percentile=98.9))
    assert report.warnings == ()
    assert [row.value for row in report.checks if "more usual" in row.name] == ["98 %"]


def test_row_of_a_prediction_table_makes_a_report_without_pictures(tmp_path):
    row = {
        "predicted_age_years": 60.0, "age_years": float("nan"), "sex": float("nan"),
        "interval_low_years": float("nan"), "interval_high_years": float("nan"),
    }  # fmt: skip
    report = build_report(predicted_findings(row, "flagged", "noise; blur", MODEL, 0.9))
    assert report.planes is None and report.warnings == ("noise", "blur")
    assert report.interval.startswith("There is no interval")
    paths = write_report(report, tmp_path / "deep" / "page")
    assert [path.name for path in paths] == ["page.html", "page.pdf", "page.json"]
    assert all(path.stat().st_size > 300 for path in paths)


def test_how_a_scan_was_read_is_no_reason_for_doubt():
    told = predicted_findings({"predicted_age_years": 61.0}, "ok", "DICOM series 3", MODEL, 0.9)
    assert not told.reasons


@pytest.mark.parametrize(("constant", "warned"), [(6.0, True), (15.0, False)])
def test_a_model_that_does_not_beat_the_constant_is_doubted(constant, warned):
    baselines = {"constant": {"mae_years": constant}}
    facts = FACTS | {"metrics": FACTS["metrics"] | {"baselines": baselines}}
    report = build_report(findings(model=replace(MODEL, facts=facts)))
    assert ("not beat the constant" in " ".join(report.warnings)) == warned


def test_the_error_of_a_finetuned_model_is_that_of_its_new_heads():
    facts = FACTS | {"finetuned": {"n": 40, "mae_years": 3.25}}
    report = build_report(findings(model=replace(MODEL, facts=facts)))
    told = {row.name: row.value for row in report.model}
    assert told["Error on held-out scans"] == "3.2 years (mean, n 40)"
