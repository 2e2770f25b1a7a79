"""What a report on a row of predictions takes from the ledger beside them."""

from pathlib import Path

import pytest

from brainage.preprocessing.ledger import write_ledger
from brainage.types import LedgerEntry
from brainage.workflows.report import _ledger_entry


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
