"""Ages and sexes of a table that the DICOM header of the scan contradicts."""

from pathlib import Path

import pandas as pd
import pytest

from brainage.inference.header import remark_contradicted
from brainage.scans.volume import load_volume
from brainage.workflows.predict import PredictOptions, predict
from tests.dicom_helpers import make_head, write_series


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Return a folder of two series, whose header tells 71 years and F."""
    for number in (3, 4):
        folder = tmp_path / "scan" / str(number)
        write_series(folder, make_head(), number=number, age="071Y", PatientSex="F")
    return tmp_path / "scan"


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        (
            {"age_years": 45.0, "sex": "M"},
            ["the age given is not", "the sex given is not"],
        ),
        ({"age_years": 71.5, "sex": "female"}, []),
        ({"age_years": float("nan")}, []),
        ({"age_years": 45.0}, ["the age given is not"]),
    ],
)
def test_what_the_header_contradicts_is_asked_about(scan, given, starts):
    remarks = remark_contradicted({"path": str(scan), **given})
    assert [text[: len(start)] for text, start in zip(remarks, starts, strict=True)] == starts
    assert "71" not in "".join(remarks)


def test_series_that_agrees_is_no_contradiction(scan):
    write_series(scan / "5", make_head(), number=5, age="045Y", PatientSex="M")
    assert remark_contradicted({"path": str(scan), "age_years": 45.0, "sex": "M"}) == ()


def test_scan_without_a_header_or_that_cannot_be_read_gets_no_remark(phantom_cohort, tmp_path):
    path = phantom_cohort.parent / pd.read_csv(phantom_cohort)["path"][0]
    (tmp_path / "empty").mkdir()
    for scan in (path, tmp_path / "empty", tmp_path / "none"):
        assert remark_contradicted({"path": str(scan), "age_years": 45.0}) == ()


def test_age_of_a_table_that_the_header_contradicts_stands_in_table_and_ledger(
    phantom_cohort, tmp_path
):
    path = phantom_cohort.parent / pd.read_csv(phantom_cohort)["path"][0]
    scan = tmp_path / "anna"
    write_series(scan, load_volume(path), age="071Y", PatientSex="F")
    ages, output = tmp_path / "ages.csv", tmp_path / "predictions.csv"
    ages.write_text("subject,age\nanna,45\n")
    with pytest.warns(UserWarning, match="1 scans were given an age or a sex"):
        assert predict([scan], None, output, PredictOptions(ages=ages)) == 0
    for name, column in (("predictions.csv", "reasons"), ("ledger.csv", "reason")):
        reasons = pd.read_csv(tmp_path / name)[column]
        assert reasons.str.contains("the age given is not that of the DICOM header").all()
