"""Scans that are the same under different names: they would be learned and tested at once."""

import numpy as np
import pandas as pd

from brainage.errors import CohortError
from brainage.files import sha256_bytes
from brainage.types import BoolArray, HalfArray, LedgerEntry

_MAX_LISTED = 20


def hash_arrays(arrays: HalfArray) -> list[str]:
    """SHA-256 of the bytes of each prepared array (N, I, J, K)."""
    return [sha256_bytes(np.ascontiguousarray(array).tobytes()) for array in arrays]


def find_duplicates(arrays: HalfArray, table: pd.DataFrame) -> tuple[BoolArray, list[LedgerEntry]]:
    """Find scans whose prepared voxels are those of another scan id.

    Where subject and age agree the first scan is good; where they differ it cannot be known
    which row is right, and all of them are bad.

    Parameters
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K)
        Prepared scans.
    table : pandas.DataFrame (N rows)
        `scan_id`, `subject_id`, `age_years`.

    Returns
    -------
    numpy.ndarray of bool (N,)
        Scans that can be used.
    list of LedgerEntry
        One failed entry for each of the others.
    """
    rows = table.reset_index(drop=True).assign(content=hash_arrays(arrays))
    good = np.ones(len(rows), dtype=bool)
    entries = []
    for _, group in rows[rows["content"].duplicated(keep=False)].groupby("content", sort=False):
        same = len(group[["subject_id", "age_years"]].drop_duplicates()) == 1
        first, names = group.index[0], list(group["scan_id"])
        for index in group.index[1:] if same else group.index:
            others = ", ".join(name for name in names if name != rows["scan_id"][index])
            reason = f"holds the same voxels as {others}."
            if not same:
                reason += " Their subjects or ages differ: which row is right cannot be known."
            good[index] = False
            entries.append(LedgerEntry(str(rows["scan_id"][index]), "duplicate", "failed", reason))
        good[first] = same
    return good, entries


def refuse_duplicates(entries: list[LedgerEntry], source: str) -> None:
    """Refuse a cohort with duplicate scans.

    Raises
    ------
    CohortError
        Listing them, if there are any.
    """
    if not entries:
        return
    lines = [f"  {entry.scan_id}: {entry.reason}" for entry in entries[:_MAX_LISTED]]
    if len(entries) > _MAX_LISTED:
        lines.append(f"  and {len(entries) - _MAX_LISTED} more")
    first = (
        f"{len(entries)} scans are duplicates, which would be learned and tested at once. "
        "Mend the table, or leave them out with --skip-bad:"
    )
    raise CohortError(source, "\n".join([first, *lines]))
