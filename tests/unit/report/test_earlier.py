import json
from dataclasses import replace
from datetime import date

import pytest

from brainage.errors import ConfigError
from brainage.report import Findings, ModelIdentity, Typed, build_report, render_html, render_json
from brainage.report.earlier import add_earlier, detectable_change, read_earlier
from brainage.report.page_pdf import render_pdf

FACTS = {"retests": {"n_subjects": 10, "within_sd_years": 1.4}}
MODEL = ModelIdentity("oasis", "1", "ab" * 32, FACTS)
NOW = Findings(
    "scan", "ok", (), "raw head", {}, MODEL, 57.0, (46.0, 68.0), age_years=50.0, code="aaaaaa"
)


@pytest.fixture
def written(tmp_path):
    """Write the report of an earlier scan, changed as asked; return its path."""

    def write(name="before.json", date_typed="2024-03-01", **changes):
        before = replace(NOW, **({"age_years": 48.0, "predicted_age_years": 53.0} | changes))
        before = replace(before, code=changes.get("code", "bbbbbb"))
        report = build_report(before, Typed(scan_date=date_typed), made_on=date(2025, 1, 2))
        (tmp_path / name).write_text(render_json(report))
        return tmp_path / name

    return write


def report_after(*paths, **changes):
    now = replace(NOW, **changes)
    return build_report(add_earlier(now, read_earlier(paths, now.model)))


def test_change_within_chance_is_called_so(written):
    row = report_after(written()).results[-1]
    assert (row.name, row.value) == ("Earlier, 2024-03-01", "53.0 years, gap +5.0")
    assert "changed by +2.0 years" in row.note and "chance alone gives up to 3.9" in row.note


def test_change_beyond_chance_is_called_so(written):
    row = report_after(written(predicted_age_years=50.0)).results[-1]
    assert "changed by +5.0 years: more than the 3.9 of chance" in row.note


@pytest.mark.parametrize("when", ["then", "now"])
def test_without_an_age_no_change_is_told(written, when):
    before = {"age_years": None} if when == "then" else {}
    now = {"age_years": None} if when == "now" else {}
    row = report_after(written(**before), **now).results[-1]
    assert row.note == "without both ages no change of the gap is known"
    assert row.value.startswith("53.0 years") and ("gap" in row.value) == (when == "now")


def test_model_without_retests_does_not_judge_the_change(written):
    model = replace(MODEL, facts={})
    row = report_after(written(), model=model).results[-1]
    assert "changed by +2.0 years" in row.note and "does not know how much is chance" in row.note
    assert detectable_change({}) is None


def test_flagged_earlier_scan_says_so(written):
    row = report_after(written(verdict="flagged", reasons=("noise",))).results[-1]
    assert "cannot be told, that scan was flagged" in row.note


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"ood_percentile": 99.0}, {}, "that scan is unlike"),
        ({}, {"ood_percentile": 99.5}, "this scan is flagged or unlike"),
        ({}, {"verdict": "flagged"}, "this scan is flagged or unlike"),
    ],
)
def test_no_change_of_an_unusual_scan_is_called_more_than_chance(written, before, now, told):
    row = report_after(written(predicted_age_years=40.0, **before), **now).results[-1]
    assert "cannot be told" in row.note and told in row.note and "of chance" not in row.note


def test_time_points_stand_in_order_of_age(written):
    paths = [
        written("b.json", "second", age_years=49.0),
        written("a.json", "first", age_years=45.0, code="cccccc"),
    ]
    rows = report_after(*paths).results[-2:]
    assert [row.name for row in rows] == ["Earlier, first", "Earlier, second"]


def test_date_of_the_report_stands_in_for_that_of_the_scan(written):
    assert report_after(written(date_typed="")).results[-1].name == "Earlier, reported 2025-01-02"


def test_of_many_time_points_the_first_and_the_last_stand_on_the_page(written):
    paths = [
        written(f"{age}.json", f"at {age}", age_years=float(age), code=f"{age:06d}")
        for age in range(40, 48)
    ]
    report = report_after(*paths)
    rows = [(row.name, row.value) for row in report.results if row.name.startswith("Earlier")]
    assert [name for name, _ in rows] == [
        f"Earlier{text}" for text in (", at 40", "", ", at 46", ", at 47")
    ]
    assert rows[1][1] == "5 more" and len(report.numbers["result"]["earlier"]) == 8


def test_page_and_numbers_tell_the_same(written):
    report = report_after(written())
    assert "Earlier, 2024-03-01" in render_html(report) and render_pdf(report)
    numbers = json.loads(render_json(report))
    (told,) = numbers["result"]["earlier"]
    assert told["gap_change_years"] == pytest.approx(2.0)
    change = numbers["model"]["smallest_detectable_change_years"]
    assert change == pytest.approx(3.88, abs=0.01)


def test_failed_scan_is_compared_with_nothing(written):
    report = report_after(written(), verdict="failed", reasons=("no T1",), predicted_age_years=None)
    assert not report.results and json.loads(render_json(report))["result"] is None


def test_other_model_is_refused(written):
    path = written(model=replace(MODEL, sha256="cd" * 32))
    with pytest.raises(ConfigError, match="another model"):
        report_after(path)


def test_other_preparation_is_refused(written):
    path = written()
    numbers = json.loads(path.read_text())
    path.write_text(json.dumps(numbers | {"preparation_version": 1}))
    with pytest.raises(ConfigError, match="another version"):
        report_after(path)


def calibrated(offset_years):
    return replace(MODEL, facts=FACTS | {"calibration": {"offset_years": offset_years}})


def test_other_offset_of_the_same_weights_is_refused(written):
    path = written(model=calibrated(3.5))
    assert report_after(path, model=calibrated(3.5)).results
    with pytest.raises(ConfigError, match=r"3\.5 years of `calibrate` taken off, this model 0"):
        report_after(path)


def test_offset_stands_on_the_page():
    rows = {row.name: row.value for row in build_report(replace(NOW, model=calibrated(3.5))).model}
    assert rows["Calibrated"] == "-3.5 years for this site"
    assert "Calibrated" not in {row.name for row in build_report(NOW).model}


@pytest.mark.parametrize(
    ("before", "told"),
    [({"age_years": 51.0}, "age 51, later"), ({"sex": "m"}, "of sex m"), ({"sex": "Male"}, "sex")],
)
def test_what_cannot_be_an_earlier_scan_of_this_person_is_refused(written, before, told):
    with pytest.raises(ConfigError, match=told):
        report_after(written(**before), sex="F")


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ("2024-03-01", "2024-02-28", "later date"),
        ("2020-03-01", "2026-03-01", "2 years younger by age, and by date about 6"),
        ("2024-03", "2024-03-20", "by date about 0"),
        ("2024-03-01", "2026-02-01", None),
        ("2024", "2025", None),
        ("March 2020", "2026-03-01", None),
    ],
)
def test_dates_that_contradict_order_or_ages_are_refused(written, then, now, told):
    """An age that was typed as before moves the gap by the years between the scans."""
    before = read_earlier([written(date_typed=then)], NOW.model)
    if told is None:
        assert add_earlier(NOW, before, now).earlier == before
        return
    with pytest.raises(ConfigError, match=told):
        add_earlier(NOW, before, now)


def test_one_report_given_twice_is_refused(written):
    with pytest.raises(ConfigError, match="twice"):
        report_after(written(), written())


def test_report_of_the_same_scan_is_refused(written):
    with pytest.raises(ConfigError, match="this very scan"):
        report_after(written(code="aaaaaa"))


def test_report_of_the_same_scan_by_way_of_a_table_is_refused(written):
    with pytest.raises(ConfigError, match="this very scan"):
        report_after(written(predicted_age_years=57.000001))
    assert report_after(written(predicted_age_years=57.001)).results


def test_failed_earlier_scan_is_refused(written):
    path = written(verdict="failed", reasons=("no T1",), predicted_age_years=None)
    with pytest.raises(ConfigError, match="no age"):
        report_after(path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"result": 3}', "\x00", None],
    ids=["nothing", "list", "empty", "number", "bytes", "missing"],
)
def test_what_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"other\.json: is no report"):
        report_after(path)


def test_ages_that_are_no_numbers_are_refused(written):
    path = written()
    path.write_text(path.read_text().replace("53.0", "NaN"))
    with pytest.raises(ConfigError, match="is no report"):
        report_after(path)
