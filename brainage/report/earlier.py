"""Earlier reports on the same person, and whether the gap has moved since by more than chance."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from brainage.cohorts.cells import parse_sex
from brainage.errors import ConfigError
from brainage.evaluation.metrics import smallest_detectable_change
from brainage.evaluation.ood import FLAG_PERCENTILE
from brainage.files import parse_json
from brainage.prepared.store import CODE_VERSION
from brainage.report.checks import Row
from brainage.report.doubts import is_unlike
from brainage.report.findings import Earlier, Findings, ModelIdentity
from brainage.types import Json

_SHOWN = 3
_DATE = re.compile(r"(\d{4})(?:-(0[1-9]|1[0-2])(?:-([0-2]\d|3[01]))?)?")
_SAME_YEARS = 1e-4  # more than what the batch that a scan is predicted in changes
# Ages in completed years are off by less than one each; from 89 on some are no longer counted.
_AGE_SLACK, _OLDEST_TOLD = 1.05, 89.0


def read_earlier(paths: Sequence[str | Path], model: ModelIdentity) -> tuple[Earlier, ...]:
    """Read the JSON files of earlier reports, in order of age where all ages are known.

    Parameters
    ----------
    model : ModelIdentity
        What the new report is by.

    Raises
    ------
    ConfigError
        If one is no report, has no age, or comes from another model, another site's offset or a
        version of brainage that prepares scans otherwise.
    """
    found = [_read(Path(path), model) for path in paths]
    if all(one.age_years is not None for one in found):
        found.sort(key=lambda one: one.age_years or 0.0)
    return tuple(found)


def add_earlier(findings: Findings, earlier: Sequence[Earlier], scan_date: str = "") -> Findings:
    """Put earlier reports beside the findings of a new scan.

    Parameters
    ----------
    scan_date : str
        Of the new scan; ages are held against dates where both are written as 2024-03[-31].

    Raises
    ------
    ConfigError
        If one is of this very scan, comes twice, is of a later age or date, or of another sex, or
        the ages lie other years apart than the dates.
    """
    codes = [findings.code]
    for one in earlier:
        problem = _find_contradiction(one, findings) or _find_other_years(one, findings, scan_date)
        if one.code and one.code in codes[1:]:
            problem = "was given twice"
        if one.code == codes[0] != "" or _is_same_age(one, findings):
            problem = "is of this very scan"
        if problem:
            problem = f"the report of {one.when} {problem}."
            raise ConfigError("--earlier", problem, "Give earlier time points of this person.")
        codes.append(one.code)
    return replace(findings, earlier=tuple(earlier))


def _is_same_age(one: Earlier, findings: Findings) -> bool:
    """Whether two predictions are equal in decimals that no two scans share.

    A report on a row of a table has another code than one on the scan itself.
    """
    now = findings.predicted_age_years
    return now is not None and abs(one.predicted_age_years - now) < _SAME_YEARS


def _find_contradiction(one: Earlier, findings: Findings) -> str:
    """Say why a report cannot be of an earlier scan of this person; empty if it can."""
    sexes = parse_sex(one.sex), parse_sex(findings.sex)
    if all(sexes) and sexes[0] != sexes[1]:
        return f"is of sex {one.sex}, this scan of sex {findings.sex}"
    age = findings.age_years
    if age is not None and one.age_years is not None and one.age_years > age:
        return f"is of age {one.age_years:g}, later than this scan's {age:g}"
    return ""


def _find_other_years(one: Earlier, findings: Findings, scan_date: str) -> str:
    """Say how the dates of two scans contradict their order or ages; empty if they do not."""
    then, now = _read_date(one.when), _read_date(scan_date)
    if then is None or now is None:
        return ""
    least, most = now[0] - then[1], now[1] - then[0]
    if most < 0:
        return f"is of a later date than this scan's {scan_date}"
    ages = one.age_years, findings.age_years
    if any(age is None or age >= _OLDEST_TOLD for age in ages):
        return ""
    moved = float(ages[1] or 0.0) - float(ages[0] or 0.0)
    if least - _AGE_SLACK < moved < most + _AGE_SLACK:
        return ""
    return f"is {moved:.3g} years younger by age, and by date about {(least + most) / 2:.3g}"


def _read_date(text: str) -> tuple[float, float] | None:
    """Return the years between which a date such as 2024-03 lies; None of what is no such date."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day = (None if part is None else int(part) for part in found.groups())
    start = float(year or 0) + ((month or 1) - 1) / 12 + ((day or 1) - 1) / 366
    return start, start + (1.0 if month is None else 1 / 12 if day is None else 0.0)


def _read(path: Path, model: ModelIdentity) -> Earlier:
    where = f"--earlier {path.name}"
    try:
        numbers: Json = parse_json(path.read_bytes())
        result, verdict = numbers["result"], str(numbers["quality"]["verdict"])
        sha256, code = str(numbers["model"]["weights_sha256"]), numbers["scan_sha256_begins"]
        offset = float(numbers["model"]["offset_years"])
        when = str(numbers["scan_date"] or f"reported {numbers['made_on']}")
        sex = "" if result is None else str(result["sex"] or "")
        ages = None if result is None else _ages(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"is no report of this version ({type(error).__name__})."
        remedy = "Give the .json of `brainage report`; where it is older, report on its scan anew."
        raise ConfigError(where, problem, remedy) from error
    if ages is None:
        raise ConfigError(where, "gives no age: its scan failed the checks.", "Leave it out.")
    remedy = "Report on both scans with one model."
    if sha256 != model.sha256:
        problem = "comes from another model; ages of two models cannot be compared."
        raise ConfigError(where, problem, remedy)
    if offset != model.offset_years:
        problem = (
            f"has {offset:g} years of `calibrate` taken off, this model {model.offset_years:g}."
        )
        raise ConfigError(where, problem, remedy)
    if numbers.get("preparation_version") != CODE_VERSION:
        problem = "was made by another version of brainage, which prepares scans otherwise."
        raise ConfigError(where, problem, "Report on its scan anew.")
    predicted, age, ood = ages
    return Earlier(when, verdict, predicted, age, str(code or ""), sex, ood)


def _ages(result: Json) -> tuple[float, float | None, float | None]:
    """Return predicted age, age, and the share of more usual training scans."""
    names = ("predicted_age_years", "age_years", "ood_percentile")
    predicted, *known = (None if result[name] is None else float(result[name]) for name in names)
    if predicted is None or not all(math.isfinite(years or 0.0) for years in (predicted, *known)):
        raise ValueError("not finite")
    return predicted, known[0], known[1]


def detectable_change(facts: Json) -> float | None:
    """Smallest change of one person's gap that retests of the model's cohort do not show, in years.

    None where the model knows no retests.

    Examples
    --------
    >>> round(detectable_change({"retests": {"n_subjects": 10, "within_sd_years": 1.4}}), 2)
    3.88
    """
    known = facts.get("retests")
    return None if not known else smallest_detectable_change(float(known["within_sd_years"]))


def list_earlier(findings: Findings) -> tuple[Row, ...]:
    """List earlier time points, each with what has changed since: of many the first and last."""
    rows = [
        Row(f"Earlier, {one.when}", _value(one), _note(one, findings)) for one in findings.earlier
    ]
    if (left := len(rows) - _SHOWN) > 0:
        rows[1 : left + 1] = [Row("Earlier", f"{left} more", "see the JSON file")]
    return tuple(rows)


def earlier_numbers(findings: Findings) -> list[Json]:
    """List the same for machines."""
    gap = findings.brain_age_gap_years
    return [
        {
            "when": one.when,
            "verdict": one.verdict,
            "age_years": one.age_years,
            "predicted_age_years": one.predicted_age_years,
            "brain_age_gap_years": one.gap_years,
            "gap_change_years": _change(one, gap),
        }
        for one in findings.earlier
    ]


def _change(one: Earlier, gap_years: float | None) -> float | None:
    return None if gap_years is None or one.gap_years is None else gap_years - one.gap_years


def _value(one: Earlier) -> str:
    gap = "" if one.gap_years is None else f", gap {one.gap_years:+.1f}"
    return f"{one.predicted_age_years:.1f} years{gap}"


def _note(one: Earlier, findings: Findings) -> str:
    change = _change(one, findings.brain_age_gap_years)
    limit = detectable_change(findings.model.facts)
    if change is None:
        return "without both ages no change of the gap is known"
    words = f"gap changed by {change:+.1f} years: "
    if doubt := _doubt(one, findings):
        return f"{words}whether by more than chance cannot be told, {doubt}"
    if limit is None:
        return f"{words}this model does not know how much is chance"
    people = findings.model.facts["retests"]["n_subjects"]
    if abs(change) <= limit:
        return f"{words}chance alone gives up to {limit:.1f} (retests of {people} people)"
    return f"{words}more than the {limit:.1f} of chance (retests of {people} people)"


def _doubt(one: Earlier, findings: Findings) -> str:
    """Say which of two scans is none of those that the retests tell of."""
    if one.verdict != "ok":
        return "that scan was flagged"
    if one.ood_percentile is not None and one.ood_percentile >= FLAG_PERCENTILE:
        return "that scan is unlike the model's cohort"
    return "this scan is flagged or unlike the model's cohort" if is_unlike(findings) else ""
