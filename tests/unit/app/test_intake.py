"""What the page asks for, without a server."""

from types import SimpleNamespace

import pytest

from page_parts import intake


@pytest.mark.parametrize(
    ("several", "one_person", "asked"),
    [
        (False, False, ["person_name", "study_id", "scan_date"]),
        (True, True, ["person_name", "study_id"]),
        (True, False, []),
    ],
)
def test_no_name_is_printed_for_different_people_and_no_date_for_several_scans(
    several, one_person, asked, monkeypatch
):
    column = SimpleNamespace(text_input=lambda *_, **__: "typed")
    monkeypatch.setattr(intake.st, "columns", lambda count: [column] * count)
    monkeypatch.setattr(intake.st, "caption", lambda _: None)
    assert list(intake._ask_for_print(several, one_person)) == asked
