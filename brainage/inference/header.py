"""Ages and sexes, as a person gave them, that a scan's DICOM header says otherwise."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from brainage.cohorts.cells import parse_sex
from brainage.errors import VolumeError
from brainage.scans.open import scan_series

_OLDEST_TOLD_YEARS = 89.0
_QUESTIONS = {
    "age": "is this the person's scan, and the age that at its date?",
    "sex": "is this the person's scan?",
}


def find_contradicted(
    age_years: float | None, sex: str, told_age_years: float | None, told_sex: str
) -> tuple[str, ...]:
    """Find which of ``age`` and ``sex``, as given, the DICOM header says otherwise.

    PatientAge counts whole years, and one may have been given rounded: a year more or less is no
    contradiction. Nor is any age beside another of 89 or more, which is where programs that take
    the identity away stop counting.

    Examples
    --------
    >>> find_contradicted(45.0, "F", 71.0, "F")
    ('age',)
    """
    sexes = {parse_sex(sex), told_sex} - {""}
    ages_differ = (
        age_years is not None
        and told_age_years is not None
        and not told_age_years - 1.0 <= age_years < told_age_years + 2.0
        and min(age_years, told_age_years) < _OLDEST_TOLD_YEARS
    )
    return ("age",) * ages_differ + ("sex",) * (len(sexes) > 1)


def describe_contradicted(name: str) -> str:
    """Ask about an ``age`` or a ``sex`` that the header contradicts; neither of both is told."""
    return f"the {name} given is not that of the DICOM header: {_QUESTIONS[name]}"


def split_contradicted(reasons: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split reasons of a prediction into those that are none of `remark_contradicted`, and names.

    Examples
    --------
    >>> split_contradicted(("noise", describe_contradicted("age")))
    (('noise',), ('age',))
    """
    starts = {name: f"the {name} given is " for name in _QUESTIONS}
    others = tuple(reason for reason in reasons if not reason.startswith(tuple(starts.values())))
    named = tuple(
        name
        for name, start in starts.items()
        if any(reason.startswith(start) for reason in reasons)
    )
    return others, named


def remark_contradicted(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    """Ask about age and sex of a row that the headers of all series of its scan contradict.

    Parameters
    ----------
    row : mapping
        `path` and, where known, `age_years` and `sex`.
    """
    age, sex = row.get("age_years"), row.get("sex")
    age = None if pd.isna(age) else float(age)
    sex = "" if pd.isna(sex) else str(sex)
    if age is None and not sex:
        return ()
    try:
        series = scan_series(row["path"], str(row["path"]))
    except VolumeError:
        return ()  # preparing it says what is wrong
    found = [find_contradicted(age, sex, told.age_years, told.sex) for told in series]
    return tuple(
        describe_contradicted(name)
        for name in _QUESTIONS
        if found and all(name in names for names in found)
    )
