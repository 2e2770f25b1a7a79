"""What a report on a row of predictions takes from the ledger beside them."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from brainage.cohorts.sample import SAMPLE_AGE_YEARS
from brainage.errors import CohortError, ConfigError
from brainage.inference.model import Model
from brainage.inference.predict import mark_model
from brainage.preprocessing.ledger import write_ledger
from brainage.types import LedgerEntry
from brainage.workflows.models import load_model
from brainage.workflows.report import (
    ReportOptions,
    _age_sample,
    _check_intervals,
    _check_model,
    _judge,
    _ledger_entry,
    _refuse_other_json,
)

BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundle_1"


def test_verdict_and_reason_are_those_of_the_ledger(tmp_path: Path) -> None:
    entries = [LedgerEntry("a", "prepare", "ok"), LedgerEntry("b", "prepare", "failed", "damaged")]
    write_ledger(entries, tmp_path / "ledger.csv")
    assert _ledger_entry(tmp_path / "ledger.csv", "a") == ("ok", "")
    assert _ledger_entry(tmp_path / "ledger.csv", "b") == ("failed", "damaged")


@pytest.mark.parametrize("text", [None, "words", "scan_id,stage,verdict,reason,seconds\n"])
def test_scan_without_an_entry_is_never_called_ok(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ledger.csv").write_text(text)
    assert _ledger_entry(tmp_path / "ledger.csv", "a")[0] == "flagged"


def test_verdict_of_the_table_goes_before_a_ledger_of_other_scans(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.csv"
    write_ledger([LedgerEntry("a", "prepare", "ok")], ledger)
    flagged = {"scan_id": "a", "verdict": "flagged", "reasons": "noise"}
    assert _judge(flagged, ledger) == ("flagged", "noise")
    assert _judge({"scan_id": "a"}, ledger) == ("ok", "")
    assert _judge({"scan_id": "a", "verdict": "failed"}, ledger)[0] == "failed"


def row_of(model: Model, level: float) -> dict[str, float]:
    assert model.bundle.intervals is not None
    low, high = model.bundle.intervals.predict([50.0], [4.0], level)[0]
    ages = {"predicted_age_years": 50.0, "spread_years": 4.0}
    return ages | {"interval_low_years": low, "interval_high_years": high}


def test_interval_of_another_level_or_model_is_refused() -> None:
    model = load_model(BUNDLE)
    row = row_of(model, 0.5)
    _check_intervals(row, model, 0.5, "table")
    other = row | {"interval_high_years": row["interval_high_years"] + 1}
    for wrong, level in ((row, 0.8), (other, 0.5)):
        with pytest.raises(CohortError, match="another interval"):
            _check_intervals(wrong, model, level, "table")


@pytest.mark.parametrize("absent", ["interval_low_years", "spread_years"])
def test_row_without_an_interval_is_not_refused(absent: str) -> None:
    model = load_model(BUNDLE)
    row = {name: value for name, value in row_of(model, 0.5).items() if name != absent}
    _check_intervals(row, model, 0.8, "table")


@pytest.mark.parametrize(("text", "refused"), [("{}", True), ('{"report_version": "2"}', False)])
def test_a_sidecar_is_not_written_over(text: str, refused: bool, tmp_path: Path) -> None:
    path = tmp_path / "sub-1_T1w.json"
    _refuse_other_json(path)
    path.write_text(text)
    with pytest.raises(ConfigError, match="no report") if refused else nullcontext():
        _refuse_other_json(path)


def test_row_of_another_model_is_refused() -> None:
    model = load_model(BUNDLE)
    for row in ({}, {"predicted_by": float("nan")}, {"predicted_by": mark_model(model.bundle)}):
        _check_model(row, model, "table")
    facts = model.bundle.facts
    calibrated = {**facts["calibration"], "offset_years": 2.0}
    other = replace(model.bundle, facts={**facts, "calibration": calibrated})
    with pytest.raises(CohortError, match="another model"):
        _check_model({"predicted_by": mark_model(other)}, model, "table")


def test_an_age_typed_for_the_sample_is_not_replaced() -> None:
    assert _age_sample(ReportOptions(age_years=30.0)).age_years == 30.0
    assert _age_sample(ReportOptions()).age_years == SAMPLE_AGE_YEARS
