"""Join cohorts: a site for each scan, and no subject in two of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainage.cohorts.cells import note_spellings
from brainage.cohorts.cohort import Cohort, CohortReading
from brainage.errors import CohortError


def join_readings(readings: Sequence[CohortReading]) -> CohortReading:
    """Put cohorts below each other.

    Where a scan has no site, the name of its cohort's folder is filled in, so that folds, metrics
    and `--leave-site-out` tell the cohorts apart. Columns that a cohort lacks are empty in its
    rows.

    Raises
    ------
    CohortError
        If a scan or subject id comes in two cohorts: whether it is one person cannot be known.
    """
    tables = []
    for reading in readings:
        table = reading.cohort.table
        site = table["site"].where(table["site"] != "", _folder_name(reading.cohort.source))
        tables.append(table.assign(site=site))
    source = " + ".join(reading.cohort.source for reading in readings)
    for name in ("subject_id", "scan_id"):
        refuse_shared(tables, name, source)
    joined = pd.concat(tables, ignore_index=True)
    rejected = [entry for reading in readings for entry in reading.rejected]
    rows_in = sum(reading.rows_in for reading in readings)
    known = {note for reading in readings for note in reading.notes}
    notes = (
        *_remark_sites(tables),
        note_spellings(joined["subject_id"], "person"),
        note_spellings(joined["site"], "site"),
    )
    told = tuple(note for note in notes if note and note not in known)
    added = len(joined) - len(tables[0])
    return CohortReading(Cohort(joined, source), rejected, rows_in, told, added)


def _folder_name(source: str) -> str:
    path = Path(source).absolute()
    return path.name if path.is_dir() else path.parent.name


def _remark_sites(tables: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    """Ask about sites of one name in several cohorts: scanner 1 of each is not one scanner."""
    counts = Counter(site for table in tables for site in table["site"].unique())
    shared = sorted(site for site, count in counts.items() if count > 1)
    if not shared:
        return ()
    return (f"sites {', '.join(shared[:5])} are in several cohorts and count as one: are they?",)


def refuse_shared(tables: Sequence[pd.DataFrame], name: str, source: str) -> None:
    """Refuse tables that share an id.

    Raises
    ------
    CohortError
        Naming the first.
    """
    seen: set[str] = set()
    for table in tables:
        own = set(table[name])
        if shared := sorted(seen & own):
            problem = f"{len(shared)} {name}s are in two cohorts, the first is {shared[0]!r}."
            raise CohortError(source, problem, "Give people of different cohorts different ids.")
        seen |= own
