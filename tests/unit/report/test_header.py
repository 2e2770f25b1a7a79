"""What a report says of the DICOM header: which series, and that typed values contradict it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from brainage.inference.header import describe_contradicted, find_contradicted
from brainage.prepared.placement import ProcessedSource
from brainage.report import examine, predicted_findings
from brainage.report.content import build_report
from brainage.scans.open import read_scan
from brainage.workflows.report import write_report
from tests.dicom_helpers import SECRETS, make_head, write_series
from tests.unit.report.test_report import MODEL

BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundle_1"
TOLD = "DICOM series 3 '{}' (MR, 26 slices of 28x24{}), of 2 series: asked for"


@pytest.mark.parametrize(
    ("typed", "told", "found"),
    [
        ((45, "F"), (71, "M"), ("age", "sex")),
        ((71.9, "M"), (71, "M"), ()),
        ((70, "f"), (71, "F"), ()),
        ((69.9, ""), (71, "F"), ("age",)),
        ((73, ""), (71, "F"), ("age",)),
        ((94, "M"), (90, "M"), ()),
        ((94, "M"), (45, "M"), ("age",)),
        ((None, "female"), (71, "M"), ("sex",)),
        ((45, "F"), (None, ""), ()),
        ((45, "other"), (45, "M"), ()),
    ],
)
def test_header_contradicts_what_cannot_be_its_age_or_sex(typed, told, found):
    assert find_contradicted(*typed, *told) == found


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    words = f"MPRAGE Dr Other {SECRETS[0]}"
    write_series(folder / "a", make_head(), description=words, age="071Y", PatientSex="F")
    write_series(folder / "b", make_head(), number=7, description="t2_tse", EchoTime=90.0)
    return folder


@pytest.fixture
def unplaced(monkeypatch):
    """Read scans, and place none: it takes seconds."""

    def process(source, settings, store):
        processed = SimpleNamespace(verdict="failed", reasons=(), recognised="", measures={})
        return ProcessedSource(processed, read_scan(source.path, source.where))

    monkeypatch.setattr(examine, "process_source", process)
    pictured = SimpleNamespace(image=None, mask=None)
    monkeypatch.setattr(examine, "picture_scan", lambda *_: pictured)


def test_report_says_which_series_and_what_the_header_contradicts(scan, tmp_path, unplaced):
    options = {"age_years": 45, "sex": "M", "map_method": ""}
    with pytest.warns(UserWarning, match="header") as warned:
        found = write_report(scan, tmp_path / "page", BUNDLE, **options)
    assert found.series == (
        "Series 3: looks T1-weighted, 26 axial slices, 28 × 24 pixels; the only one that looks "
        "T1-weighted, of 2 series"
    )
    told = "".join(str(each.message) for each in warned)
    numbers = json.loads((tmp_path / "page.json").read_text())
    assert numbers["dicom_series"] == found.series
    page = (tmp_path / "page.html").read_text()
    assert "DICOM series 3" in page
    for name in ("age", "sex"):
        words = f"the {name} given is not that of the DICOM header"
        assert told.count(words) == page.count(words) == 1
        assert sum(words in text for text in numbers["warnings"]) == 1
    everything = page + json.dumps(numbers)
    assert not any(text in everything for text in ("71 years", "Other", "MPRAGE", *SECRETS))
    assert not any("71" in text for text in numbers["warnings"])


@pytest.mark.parametrize(
    "description", ["MPRAGE", "Dr O'Neill; 5 '(MR, 1 slices of 2x3)'"], ids=["plain", "quotes"]
)
@pytest.mark.parametrize("which", ["", ", second examination"], ids=["one", "two"])
def test_report_on_a_row_of_predictions_says_the_series_and_none_of_its_text(description, which):
    reason = f"noise; {TOLD.format(description, which)}; with contrast agent; blur"
    found = predicted_findings({"predicted_age_years": 60.0}, "flagged", reason, MODEL, 0.9)
    assert found.reasons == ("noise", "blur")
    name = "Series 3 (second examination)" if which else "Series 3"
    shown = "with contrast agent, 26 slices, 28 × 24 pixels; asked for, of 2 series"
    assert found.series == f"{name}: {shown}"


@pytest.mark.parametrize("verdict", ["ok", "flagged"])
def test_report_on_a_row_of_predictions_keeps_what_the_header_contradicts(verdict):
    row = {"predicted_age_years": 60.0, "age_years": 45.0}
    asked = describe_contradicted("age")
    report = build_report(predicted_findings(row, verdict, f"blur; {asked}", MODEL, 0.9))
    assert report.warnings[:1] == (asked,)
    assert report.warnings.count(asked) == 1 and ("blur" in report.warnings) == (
        verdict == "flagged"
    )
