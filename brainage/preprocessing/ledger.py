"""Ledger: one line for every row or scan that did not simply pass."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from brainage.errors import StoreError
from brainage.files import atomic_write_text
from brainage.types import LedgerEntry, Verdict

COLUMNS = ("scan_id", "stage", "verdict", "reason", "seconds")
PROVENANCE_COLUMNS = (*COLUMNS, "path_hash", "versions")
_VERDICTS: tuple[Verdict | Literal["surplus"], ...] = ("ok", "flagged", "failed", "surplus")


@dataclass(frozen=True)
class LedgerSummary:
    """How many scans came in and what became of them.

    Attributes
    ----------
    ok, flagged, failed : int
        `ok` and `flagged` scans are used, `failed` ones are not.
    surplus : int
        Passed over for a better file of the same session.
    """

    ok: int
    flagged: int
    failed: int
    surplus: int = 0

    @property
    def rows_in(self) -> int:
        """All scans: ok + flagged + failed + surplus."""
        return self.ok + self.flagged + self.failed + self.surplus

    def __str__(self) -> str:
        parts = f"{self.ok} ok + {self.flagged} flagged + {self.failed} failed"
        parts += f" + {self.surplus} surplus" if self.surplus else ""
        return f"{self.rows_in} in = {parts}"


def write_ledger(entries: Iterable[LedgerEntry], path: Path) -> None:
    """Write the ledger as CSV, whole or not at all.

    Parameters
    ----------
    entries : iterable of LedgerEntry
        Columns scan_id, stage, verdict, reason, seconds; in this order. Where an entry tells
        them, path_hash and versions follow.
    path : Path
        File to write; an older one is replaced.

    Raises
    ------
    BrainageError
        If the file cannot be written.
    """
    listed = list(entries)
    has_provenance = any(entry.path_hash or entry.versions for entry in listed)
    columns = PROVENANCE_COLUMNS if has_provenance else COLUMNS
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for entry in listed:
        cells = asdict(replace(entry, seconds=round(entry.seconds, 3)))
        writer.writerow([cells[name] for name in columns])
    atomic_write_text(path, text.getvalue())


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Read a ledger that `write_ledger` wrote.

    Raises
    ------
    StoreError
        If the file cannot be read or is no ledger.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
        if tuple(header) not in (COLUMNS, PROVENANCE_COLUMNS):
            raise ValueError(f"the columns are {','.join(header)!r}")
        return [_build_entry(dict(zip(header, row, strict=True))) for row in rows]
    except OSError as error:
        raise StoreError(str(path), f"cannot be read ({error.strerror}).") from error
    except (ValueError, csv.Error) as error:
        expected = f"is no ledger with the columns {','.join(COLUMNS)}: {error}."
        raise StoreError(str(path), expected, "Write it anew.") from error


def summarise_ledger(entries: Iterable[LedgerEntry]) -> LedgerSummary:
    """Count the verdicts of a ledger that lists every scan."""
    counts = Counter(entry.verdict for entry in entries)
    return LedgerSummary(*(counts[name] for name in _VERDICTS))


def check_complete(entries: Iterable[LedgerEntry], rows_in: int, rows_used: int) -> None:
    """Check that no scan was lost or counted twice: rows in = rows used + failed + surplus.

    Entries of used scans (ok, flagged) may be listed or left out.

    Raises
    ------
    StoreError
        With the arithmetic, if the numbers disagree or a scan is listed twice.
    """
    entries = list(entries)
    (scan_id, count), *_ = Counter(e.scan_id for e in entries).most_common(1) or [("", 0)]
    if count > 1:
        raise StoreError("ledger", f"scan {scan_id!r} is listed {count} times, expected once.")
    summary = summarise_ledger(entries)
    left_out = summary.failed + summary.surplus
    if rows_used + left_out != rows_in:
        total = f"{rows_used} used + {left_out} left out = {rows_used + left_out}"
        raise StoreError("ledger", f"rows are lost: {total}, but {rows_in} came in.")
    if summary.ok + summary.flagged > rows_used:
        listed = f"{summary.ok} ok + {summary.flagged} flagged"
        raise StoreError("ledger", f"lists {listed} scans, but only {rows_used} were used.")


def _build_entry(row: dict[str, str]) -> LedgerEntry:
    verdict = next((name for name in _VERDICTS if name == row["verdict"]), None)
    if verdict is None:
        raise ValueError(f"the verdict {row['verdict']!r} is none of {', '.join(_VERDICTS)}")
    return LedgerEntry(
        row["scan_id"],
        row["stage"],
        verdict,
        row["reason"],
        float(row["seconds"]),
        row.get("path_hash", ""),
        row.get("versions", ""),
    )
