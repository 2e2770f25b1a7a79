"""The table of many scans, without a server."""

from pathlib import Path

import pytest

from brainage.serving.service import Job
from page_parts import results
from page_parts.results import table_row


def job(**changes):
    return Job(Path("none"), {}, lambda: True, shown="a.nii", **changes)


def test_table_does_not_call_a_scan_ok_that_has_a_warning():
    result = {
        "verdict": "ok",
        "tone": "flagged",
        "warnings": ["unlike"],
        "numbers": {"result": {"predicted_age_years": 60.0}},
    }
    row = table_row(1, job(state="done", result=result))
    assert (row["checks"], row["warnings"]) == ("flagged", "unlike")
    assert row["predicted_age_years"] == 60.0 and row["age_years"] is None


def test_scan_that_cannot_be_used_has_its_reason_and_no_age():
    row = table_row(2, job(state="refused", reason="no T1 scan"))
    assert (row["checks"], row["warnings"]) == ("failed", "no T1 scan")
    assert row["predicted_age_years"] is None


def numbers_of(age, warnings=(), model=None, sex="F"):
    result = {"age_years": age, "sex": sex}
    return {"result": result, "warnings": warnings, "model": model, "scan_sha256_begins": str(age)}


def test_both_sexes_or_one_scan_twice_are_not_one_person_over_time():
    first, second = numbers_of(60), numbers_of(62)
    assert results._doubt_person([first, second]) == ""
    assert "sexes" in results._doubt_person([first, numbers_of(62, sex="M")])
    assert "twice" in results._doubt_person([first, second, first | {"warnings": ["noise"]}])


@pytest.mark.parametrize(("warnings", "limit"), [([], 3.9), (["noise"], None)])
def test_timeline_judges_no_change_of_scans_with_warnings(warnings, limit, monkeypatch):
    given = []
    monkeypatch.setattr(results, "draw_timeline", lambda _, limit: given.append(limit) or ())
    monkeypatch.setattr(results, "picture", lambda *_: None)
    model = {"smallest_detectable_change_years": 3.9}
    jobs = [
        job(
            state="done",
            result={"numbers": numbers_of(age, warned, model)},
        )
        for age, warned in ((60.0, []), (62.0, warnings))
    ]
    results._show_timeline(jobs)
    assert given == [limit]
