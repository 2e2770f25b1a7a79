"""Standard columns of somebody's table: ids, ages, sexes, sites and paths out of text cells."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from brainage.cohorts.cells import (
    TooOldError,
    add_unit,
    find_missing_codes,
    find_path,
    is_missing,
    is_other_unit,
    note_spellings,
    parse_age,
    parse_sexes,
    read_name,
    unit_of_name,
)
from brainage.cohorts.columns import STANDARD_COLUMNS
from brainage.cohorts.table_files import RawTable

LONGEST_STUDY_YEARS = 25.0


def names_age(columns: Mapping[str, str] | None) -> bool:
    """Tell whether the column of the age was named by the user."""
    return any(ours in ("age", "age_years") for ours in columns or {})


def standardise(
    raw: RawTable, roles: Mapping[str, str], as_it_stands: bool
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Read the standard columns of a table.

    Parameters
    ----------
    raw : RawTable
    roles : mapping of str to str
        Standard name to column.
    as_it_stands : bool
        Take an age of 0 among adults for an age.

    Returns
    -------
    pandas.DataFrame (N, 7)
        `STANDARD_COLUMNS`; what has no role is empty, an unknown age NaN.
    list of str (N,)
        What is wrong with each row's age, or empty.
    list of str
        Sentences on what was decided.
    """

    def cells(name: str) -> list[str]:
        if name not in roles:
            return [""] * len(raw.frame)
        return ["" if is_missing(cell) else cell for cell in raw.frame[roles[name]].tolist()]

    def names(role: str) -> list[str]:
        return [read_name(cell) for cell in cells(role)]

    subjects, sessions, sites = names("subject_id"), names("session_id"), names("site")
    made = [
        f"{subject}_{session}" if subject and session else subject
        for subject, session in zip(subjects, sessions, strict=True)
    ]
    age_column = roles.get("age_years", "")
    unit = raw.units.get(age_column, "") or unit_of_name(age_column)
    ages, problems, above = _parse_ages([add_unit(cell, unit) for cell in cells("age_years")])
    notes = list(raw.remarks)
    if len(above) > 2:
        notes.append(
            f"{len(above)} ages of column {age_column!r} are above 120 years: if it is in months "
            "or days, its name must say so, as age_months does."
        )
    if is_other_unit(unit):
        notes.append(f"ages of column {age_column!r} are read as {unit}.")
    if not as_it_stands and find_missing_codes(ages):
        zeros = ages.count(0.0)
        notes.append(
            f"{zeros} ages of 0 among adults are read as missing; "
            f"--column age={age_column} takes them as they stand."
        )
        ages = [math.nan if age == 0 else age for age in ages]
    if ages.count(99.0) > 1 and not any(90.0 <= age < 99.0 for age in ages):
        notes.append(f"{ages.count(99.0)} ages are 99, none is 90 to 98: are they missing ones?")
    sex_column = roles.get("sex", "")
    sexes, sex_note = parse_sexes(cells("sex"), sex_column, raw.legends.get(sex_column))
    folder = raw.folder.absolute()
    standard = {
        "scan_id": names("scan_id") if "scan_id" in roles else made,
        "subject_id": subjects,
        "session_id": sessions,
        "age_years": np.array(ages, dtype=np.float64),
        "sex": sexes,
        "site": sites,
        "path": [find_path(cell, folder) for cell in cells("path")],
    }
    frame = pd.DataFrame(standard, columns=STANDARD_COLUMNS, index=raw.frame.index)
    told = (
        sex_note,
        _note_two_sexes(subjects, sexes),
        _note_far_ages(frame),
        note_spellings(subjects, "person"),
        note_spellings(sites, "site"),
    )
    return frame, problems, [*notes, *filter(None, told)]


def _note_two_sexes(subjects: Sequence[str], sexes: Sequence[str]) -> str:
    """Say whose scans have two sexes, or empty: an id may be two people's."""
    known = {pair for pair in zip(subjects, sexes, strict=True) if all(pair)}
    twice = sorted(subject for subject, sex in known if sex == "M" and (subject, "F") in known)
    if not twice:
        return ""
    more = f" and {len(twice) - 1} more have" if len(twice) > 1 else " has"
    return f"{twice[0]}{more} scans of both sexes: is it one person?"


def _note_far_ages(frame: pd.DataFrame) -> str:
    """Say whose ages lie further apart than studies last, or empty: ids may restart at a site."""
    ages = frame[frame["subject_id"] != ""].groupby("subject_id")["age_years"]
    span = ages.max() - ages.min()
    far = sorted(span.index[span > LONGEST_STUDY_YEARS])
    if not far:
        return ""
    more = f" and {len(far) - 1} more have" if len(far) > 1 else " has"
    return f"{far[0]}{more} scans {span[far[0]]:.0f} years apart: is it one person?"


def _parse_ages(cells: Sequence[str]) -> tuple[list[float], list[str], set[str]]:
    """Return ages in years, what is wrong with each, and the different cells that are too old."""
    ages, problems, above = [], [], set()
    for cell in cells:
        try:
            age_years, problem = parse_age(cell), ""
        except ValueError as error:
            age_years, problem = math.nan, str(error)
            if isinstance(error, TooOldError):
                above.add(cell)
        ages.append(age_years)
        problems.append(problem)
    return ages, problems, above
