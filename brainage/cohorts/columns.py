"""Find which column of somebody's table holds what."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from brainage.cohorts.cells import is_missing, read_legend
from brainage.errors import CohortError

STANDARD_COLUMNS = (
    "scan_id", "subject_id", "session_id", "age_years", "sex", "site", "path",
)  # fmt: skip

# Names are compared without case and punctuation. A bare "ses" is left out on purpose: in OASIS
# it is the socio-economic status. "id" alone is settled in `_settle_plain_id`.
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "scan_id": ("scan_id", "scan", "scan_name", "image_id", "image_data_id", "mri_id"),
    "subject_id": (
        "subject_id", "subject", "subj", "subj_id", "sub", "sub_id", "participant",
        "participant_id", "patient", "patient_id", "person", "person_id", "rid", "ptid", "eid",
        "ixi_id",
    ),
    "session_id": ("session_id", "session", "ses_id", "visit", "visit_id", "viscode", "timepoint"),
    "age_years": (
        "age", "age_years", "age_at_scan", "scan_age", "age_at_visit", "age_at_mri",
        "age_at_session", "session_age", "age_at_acquisition", "acq_age",
    ),
    "sex": ("sex", "gender", "m/f", "sex_id"),
    "site": (
        "site", "site_id", "scanner", "scanner_id", "center", "center_id", "centre", "centre_id",
    ),
    "path": (
        "path", "file", "filename", "filepath", "image", "image_path", "image_file", "scan_path",
        "t1", "t1w", "t1_path", "t1w_path", "nifti",
    ),
}  # fmt: skip
_SHORT = {"id": "scan_id", "scan": "scan_id", "subject": "subject_id", "session": "session_id"}
_SHORT |= {"age": "age_years"} | {name: name for name in STANDARD_COLUMNS}

# A leading zero marks a code such as 007, not a number.
_NUMBER = re.compile(r"[+-]?(?!0[0-9])(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def infer_types(frame: pd.DataFrame, decimal_comma: bool = False) -> pd.DataFrame:
    """Turn columns of text into numbers where every value is one.

    Parameters
    ----------
    frame : pandas.DataFrame
        Cells are text.
    decimal_comma : bool
        Read ``0,8`` as 0.8: the table was written where the comma is the decimal mark.

    Returns
    -------
    pandas.DataFrame
        Missing cells are NaN; columns with codes such as 007 stay text, and so do those with
        commas and points, of which one groups thousands.
    """
    return pd.DataFrame(
        {name: _infer_type(frame[name], decimal_comma) for name in frame.columns},
        index=frame.index,
    )


def _infer_type(column: pd.Series, decimal_comma: bool) -> pd.Series:
    # Lists: going through a column of pandas's text cell by cell takes ten times as long.
    known = column.where(np.array([not is_missing(cell) for cell in column.tolist()], dtype=bool))
    texts = known.str.replace(",", ".", regex=False) if decimal_comma else known
    values = [cell for cell in texts.tolist() if isinstance(cell, str)]
    marks = {mark for mark in ",." if known.str.contains(mark, regex=False).any()}
    if decimal_comma and len(marks) == 2:
        return known
    if all(_NUMBER.fullmatch(cell) for cell in values):
        return pd.to_numeric(texts)
    return known


def resolve_names(columns: Mapping[str, str], available: Sequence[str]) -> dict[str, str]:
    """Check an explicit mapping {our name: their column}, in short or full names of ours.

    Raises
    ------
    CohortError
        If one of our names or one of their columns is unknown.
    """
    resolved = {}
    for ours, theirs in columns.items():
        where = f"--column {ours}={theirs}"
        if ours not in _SHORT:
            known = "id, subject, session, age, sex, site, path"
            raise CohortError(where, f"unknown name {ours!r}.", f"Use one of: {known}.")
        if theirs not in available:
            raise CohortError(where, f"the table has no column {theirs!r}.", _list(available))
        resolved[_SHORT[ours]] = theirs
    return resolved


def find_columns(
    available: Sequence[str],
    given: Mapping[str, str],
    source: str,
    needed: Sequence[str] = ("subject_id", "path"),
) -> dict[str, str]:
    """Find the column of each standard name.

    Parameters
    ----------
    available : sequence of str
        The table's columns.
    given : mapping of str to str
        Standard name to column, already decided (see `resolve_names`).
    source : str
        The table, for messages.
    needed : sequence of str
        Standard names that must have a column.

    Returns
    -------
    dict of str to str
        Standard name to column, for the names that have one.

    Raises
    ------
    CohortError
        If two columns could hold the same thing, or a needed one is missing.
    """
    found = dict(given)
    free = [name for name in available if name not in given.values()]
    for ours, usual in USUAL_NAMES.items():
        if ours in found:
            continue
        names = {_plain(name) for name in usual}
        matches = [name for name in free if _plain(_without_legend(name)) in names]
        if len(matches) > 1:
            listed = " and ".join(repr(name) for name in matches)
            remedy = f"Choose one: --column {_short(ours)}={matches[0]}."
            raise CohortError(source, f"columns {listed} could both be {ours}.", remedy)
        if matches:
            found[ours] = matches[0]
    _settle_plain_id(found, free)
    for ours in needed:
        if ours not in found:
            raise missing_column(ours, available, source)
    return found


def is_usual(name: str, ours: str) -> bool:
    """Tell whether a column's name is a usual one for a standard name."""
    return _plain(name) in {_plain(usual) for usual in USUAL_NAMES[ours]}


def _settle_plain_id(found: dict[str, str], free: Sequence[str]) -> None:
    """Take "id" as the scan where subjects have a column, else as scan and subject alike."""
    plain = next((name for name in free if _plain(name) == "id"), None)
    if plain is not None:
        if "scan_id" not in found:
            found["scan_id"] = plain
        else:
            found.setdefault("subject_id", plain)
    if "scan_id" in found:
        found.setdefault("subject_id", found["scan_id"])


def missing_column(ours: str, available: Sequence[str], source: str) -> CohortError:
    """Error for a table without a column that is needed."""
    usual = ", ".join(USUAL_NAMES[ours][:4])
    problem = f"no column for {ours} (usual names: {usual}, ...). {_list(available)}"
    if ours == "path" and source.endswith("participants.tsv"):
        return CohortError(source, problem, "Give the BIDS folder that it lies in.")
    return CohortError(source, problem, f"Name it: --column {_short(ours)}=ITS_NAME.")


def _short(ours: str) -> str:
    return ours.removesuffix("_id").removesuffix("_years")


def _without_legend(name: str) -> str:
    """Name without the codes that it explains: ``SEX_ID`` of ``SEX_ID (1=m, 2=f)``."""
    return re.sub(r"\(.*\)|\[.*\]", "", name) if read_legend(name) else name


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _list(available: Sequence[str]) -> str:
    shown = ", ".join(available[:30])
    return f"Its columns: {shown}{', ...' if len(available) > 30 else ''}."
