from pathlib import Path

import pytest

from brainage.errors import StoreError
from brainage.preprocessing.ledger import (
    check_complete,
    read_ledger,
    summarise_ledger,
    write_ledger,
)
from brainage.types import LedgerEntry

HEADER = "scan_id,stage,verdict,reason,seconds\n"
ENTRIES = [
    LedgerEntry("a", "cohort", "failed", 'no such file: "x, y"\nsecond line'),
    LedgerEntry("b", "volume", "flagged", "low contrast", 1.25, "0a1b", "numpy 2"),
    LedgerEntry("ç", "prepare", "ok"),
]


def test_a_ledger_comes_back_as_written(tmp_path: Path) -> None:
    write_ledger(ENTRIES, tmp_path / "ledger.csv")
    assert read_ledger(tmp_path / "ledger.csv") == ENTRIES


def test_path_hash_and_versions_are_written_only_where_they_are_told(tmp_path: Path) -> None:
    write_ledger(ENTRIES, tmp_path / "ledger.csv")
    assert "path_hash,versions" in (tmp_path / "ledger.csv").read_text().splitlines()[0]
    write_ledger(ENTRIES[:1], tmp_path / "ledger.csv")
    assert (tmp_path / "ledger.csv").read_text().startswith(HEADER)
    assert read_ledger(tmp_path / "ledger.csv") == ENTRIES[:1]


def test_the_header_is_the_promised_one_even_without_entries(tmp_path: Path) -> None:
    write_ledger([], tmp_path / "ledger.csv")
    assert (tmp_path / "ledger.csv").read_text() == HEADER
    assert read_ledger(tmp_path / "ledger.csv") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,age\n1,2\n",
        HEADER + "a,b,perhaps,,0\n",
        HEADER + "a,b,ok\n",
        HEADER + "a,b,ok,,soon\n",
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.csv").write_text(text)
    with pytest.raises(StoreError, match="is no ledger"):
        read_ledger(tmp_path / "ledger.csv")


def test_an_absent_ledger_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_ledger(tmp_path / "ledger.csv")


def test_summary_counts_what_came_in() -> None:
    summary = summarise_ledger(ENTRIES)
    assert (summary.rows_in, summary.ok, summary.flagged, summary.failed) == (3, 1, 1, 1)
    assert str(summary) == "3 in = 1 ok + 1 flagged + 1 failed"


def test_a_file_passed_over_for_a_better_one_is_neither_lost_nor_failed(tmp_path: Path) -> None:
    entries = [*ENTRIES, LedgerEntry("d", "cohort", "surplus", "c is used")]
    summary = summarise_ledger(entries)
    assert str(summary) == "4 in = 1 ok + 1 flagged + 1 failed + 1 surplus"
    check_complete(entries, rows_in=4, rows_used=2)
    write_ledger(entries, tmp_path / "ledger.csv")
    assert read_ledger(tmp_path / "ledger.csv") == entries


@pytest.mark.parametrize("entries", [ENTRIES, ENTRIES[:1]], ids=["all listed", "failures only"])
def test_a_complete_ledger_passes(entries: list[LedgerEntry]) -> None:
    check_complete(entries, rows_in=3, rows_used=2)


@pytest.mark.parametrize(
    ("entries", "rows_in", "rows_used", "message"),
    [
        (ENTRIES, 4, 2, "2 used [+] 1 left out = 3, but 4 came in"),
        (ENTRIES, 2, 1, "lists 1 ok [+] 1 flagged scans, but only 1 were used"),
        ([ENTRIES[0], ENTRIES[0]], 3, 1, "'a' is listed 2 times"),
    ],
)
def test_a_lost_or_doubled_scan_is_found(entries, rows_in, rows_used, message) -> None:
    with pytest.raises(StoreError, match=message):
        check_complete(entries, rows_in, rows_used)
