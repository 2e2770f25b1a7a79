"""Name scans that are given by path, and find their people in a table of ages."""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from brainage.cohorts.bids import read_dictionary
from brainage.cohorts.bids_choice import parse_entities
from brainage.cohorts.columns import find_columns, resolve_names
from brainage.cohorts.standard import names_age, standardise
from brainage.cohorts.table_files import read_table
from brainage.errors import CohortError
from brainage.types import BoolArray

_SUFFIX = re.compile(r"(\.(nii|mgh|mgz|hdr|img|dcm|zip|ima))?(\.gz)?$", re.IGNORECASE)
_BIDS = re.compile(r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_T1w")
# What a program made of a scan is no other scan.
_DERIVED = ("space", "desc", "res", "label")
_TAKEN = ["age_years", "sex", "site"]
_MAX_LISTED = 3


def name_files(paths: Sequence[str]) -> list[str]:
    """Name scans after their files, each with a name of its own.

    Of a BIDS file that is ``sub-01_ses-2_run-1``, of others the name without its ending. Files of
    one name get as many of their folders before it as tell them apart: ``anna/T1``; those of one
    folder their ending.

    Examples
    --------
    >>> name_files(["a/sub-01_ses-2_T1w.nii.gz", "b/T1.mgz", "c/T1.mgz"])
    ['sub-01_ses-2', 'b/T1', 'c/T1']
    """
    stems = [_stem(path) for path in paths]
    folders = [Path(path).absolute().parent.parts[1:] for path in paths]
    places = Counter(zip(stems, folders, strict=True))
    last = [
        stem if places[stem, folder] == 1 else Path(path).name
        for stem, folder, path in zip(stems, folders, paths, strict=True)
    ]
    names = list(last)
    for depth in range(1, max(map(len, folders), default=0) + 1):
        counts = Counter(names)
        for place, name in enumerate(names):
            if counts[name] > 1 and folders[place][-depth:]:
                names[place] = "/".join([*folders[place][-depth:], last[place]])
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):  # one file by two paths
        seen[name] += 1
        names[place] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def _stem(path: str) -> str:
    file = Path(path)
    name = file.name if file.name not in ("", "..") else file.resolve().name
    stem = _SUFFIX.sub("", name) or name
    if not _BIDS.fullmatch(stem):
        return stem
    entities = parse_entities(stem)
    return "_".join(f"{key}-{value}" for key, value in entities.items() if key not in _DERIVED)


def list_files(paths: Sequence[str]) -> pd.DataFrame:
    """List scans given by path as a table.

    Returns
    -------
    pandas.DataFrame (N, 5)
        `scan_id`, `subject_id`, `session_id`, `age_years` (NaN) and `path`, as given. Of a name
        that is not BIDS's, the subject is the scan.
    """
    stems = [_stem(path) for path in paths]
    entities = [parse_entities(f"{stem}_") if stem.startswith("sub-") else {} for stem in stems]
    names = name_files(paths)
    return pd.DataFrame(
        {
            "scan_id": names,
            "subject_id": [
                f"sub-{found['sub']}" if found else name
                for name, found in zip(names, entities, strict=True)
            ],
            "session_id": [f"ses-{found['ses']}" if "ses" in found else "" for found in entities],
            "age_years": np.full(len(names), np.nan),
            "path": list(paths),
        }
    )


def read_people(path: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table of people and ages; paths of scans are not needed.

    Parameters
    ----------
    path : pathlib.Path
        CSV or TSV, such as participants.tsv.
    columns : mapping of str to str, optional
        As in `brainage.read_cohort`.

    Returns
    -------
    pandas.DataFrame (N, 7)
        Standard columns; ``attrs["notes"]`` says what was decided.

    Raises
    ------
    CohortError
        If a column is missing or an age cannot be read.
    """
    table = read_table(path)
    units, legends = read_dictionary(path.with_suffix(".json"), [*map(str, table.frame)])
    raw = replace(table, units=units, legends=legends)
    available = list(raw.frame.columns)
    given = resolve_names(columns or {}, available)
    roles = find_columns(available, given, raw.source, needed=("subject_id", "age_years"))
    people, problems, notes = standardise(raw, roles, names_age(columns))
    bad = [
        f"  {label}: {problem}"
        for label, problem in zip(raw.notes["label"], problems, strict=True)
        if problem
    ]
    if bad:
        listed = "\n".join([f"{len(bad)} ages cannot be read. Mend them:", *bad[:20]])
        raise CohortError(raw.source, listed)
    people.attrs["notes"] = notes
    return people


def add_people(scans: pd.DataFrame, people: pd.DataFrame, where: str) -> tuple[pd.DataFrame, str]:
    """Add age, sex and site of each scan.

    A row of `people` fits a scan by, in this order: the path; the scan's id or file name; subject
    and session; the subject alone, where the row names no session and the subject has one session
    among the scans.

    Parameters
    ----------
    scans : pandas.DataFrame
        As `list_files` gives it.
    people : pandas.DataFrame
        As `read_people` gives it.
    where : str
        Table named in errors.

    Returns
    -------
    pandas.DataFrame
        The scans with `age_years`, `sex` and `site`.
    str
        Which scans no row fits, and which of one name one row fits; or empty.

    Raises
    ------
    CohortError
        If no scan is in the table, or several rows that differ fit one.
    """
    keys = pd.DataFrame(
        {
            "file": [str(Path(path).resolve()) if path else "" for path in people["path"]],
            "scan": people["scan_id"],
            "subject": people["subject_id"].str.removeprefix("sub-"),
            "session": people["session_id"].str.removeprefix("ses-"),
        }
    )
    visits = scans.groupby("subject_id")["session_id"].nunique()
    found, shared = [], []
    for scan in scans.to_dict("records"):
        fits = _find_rows(scan, keys, visits[scan["subject_id"]] == 1)
        rows = people[fits].drop_duplicates(_TAKEN)
        if len(rows) > 1:
            problem = f"has {len(rows)} rows for scan {scan['scan_id']!r}."
            raise CohortError(where, problem, "Name the session or the path in the table.")
        found.append(rows[_TAKEN].iloc[0].to_dict() if len(rows) else None)
        told = keys[fits][["file", "scan"]].isin(
            [str(Path(scan["path"]).resolve()), scan["scan_id"]]
        )
        if "/" in scan["scan_id"] and len(rows) and not told.any(axis=None):
            shared.append(scan["scan_id"])
    lacking = [name for name, row in zip(scans["scan_id"], found, strict=True) if row is None]
    if len(lacking) == len(scans):
        ids = [*people["scan_id"].where(people["scan_id"] != "", people["subject_id"])]
        problem = f"fits none of the scans: they are {_list(lacking)}, the table has {_list(ids)}."
        raise CohortError(where, problem, "Use these ids, or give paths in a column `path`.")
    blank = {"age_years": np.nan, "sex": "", "site": ""}
    taken = pd.DataFrame([blank if row is None else row for row in found])
    notes = [f"scans that are not in {where} get no age: {_list(lacking)}."] if lacking else []
    if shared:  # of two data sets, sub-01 is not one person
        notes.append(
            f"scans of one name get the age of one row: {_list(shared)}: is it one person?"
        )
    return scans.assign(**{name: taken[name] for name in _TAKEN}), " ".join(notes)


def _find_rows(
    scan: Mapping[Hashable, str], keys: pd.DataFrame, has_one_session: bool
) -> BoolArray:
    """Rows of a table that fit a scan by the first rule that any of them fits."""
    file = Path(scan["path"])
    own = keys["subject"] == scan["subject_id"].removeprefix("sub-")
    rules = (
        keys["file"] == str(file.resolve()),
        keys["scan"].isin([scan["scan_id"], _SUFFIX.sub("", file.name), file.name]),
        own & (keys["session"] == scan["session_id"].removeprefix("ses-")),
        own & (keys["session"] == "") & has_one_session,
    )
    return next((rule for rule in rules if rule.any()), rules[0]).to_numpy(dtype=bool)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
