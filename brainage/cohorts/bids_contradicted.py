"""Name ages and sexes that a session has in BIDS and its participant can hardly have."""

import math
from collections.abc import Mapping, Sequence

from brainage.cohorts.cells import parse_age, parse_sex
from brainage.cohorts.columns import is_usual

# A session is hardly before the age at which people took part, nor decades after it.
_YEARS_BEFORE, _YEARS_AFTER = 1.0, 20.0


def name_contradicted(
    scan_id: str, session: Mapping[str, str], participant: Mapping[str, str]
) -> list[str]:
    """Name the age and the sex in which a session's row and its participant's do not fit.

    Examples
    --------
    >>> name_contradicted("sub-01_ses-1", {"age": "60"}, {"age": "5"})
    ['sub-01_ses-1: age 60, not 5']
    """
    found = []
    for name, told in participant.items():
        own = session.get(name, "")
        sexes = {parse_sex(own), parse_sex(told)} - {""}
        if is_usual(name, "age_years") and not _fits(_years(own) - _years(told)):
            found.append(f"{scan_id}: age {own}, not {told}")
        if is_usual(name, "sex") and len(sexes) == 2:
            found.append(f"{scan_id}: sex {own}, not {told}")
    return found


def describe_contradicted(found: Sequence[str]) -> list[str]:
    """Ask about what `name_contradicted` found, in a sentence or none."""
    if not found:
        return []
    told = f"{len(found)} ages or sexes of sessions do not fit participants.tsv ({found[0]})"
    return [f"{told}: the session's are taken. Are they in years, and of that person?"]


def _fits(years_later: float) -> bool:
    return math.isnan(years_later) or -_YEARS_BEFORE <= years_later <= _YEARS_AFTER


def _years(cell: str) -> float:
    try:
        return parse_age(cell)
    except ValueError:  # told as a bad row
        return math.nan
