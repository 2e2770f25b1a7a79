"""Earlier reports on the same person, and whether the gap has moved since by more than chance."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from brainage.errors import ConfigError
from brainage.files import parse_json
from brainage.report.checks import Row
from brainage.report.findings import Earlier, Findings
from brainage.types import Json


def read_earlier(paths: Sequence[str | Path], weights_sha256: str) -> tuple[Earlier, ...]:
    """Read the JSON files of earlier reports, in order of age where all ages are known.

    Parameters
    ----------
    weights_sha256 : str
        Identity of the model that the new report is by.

    Raises
    ------
    ConfigError
        If one is no report, has no age, or comes from another model.
    """
    found = [_read(Path(path), weights_sha256) for path in paths]
    if all(one.age_years is not None for one in found):
        found.sort(key=lambda one: one.age_years or 0.0)
    return tuple(found)


def add_earlier(findings: Findings, earlier: Sequence[Earlier]) -> Findings:
    """Put earlier reports beside the findings of a new scan.

    Raises
    ------
    ConfigError
        If one is of this very scan.
    """
    for one in earlier:
        if one.code and one.code == findings.code:
            problem = f"the report of {one.when} is of this very scan."
            raise ConfigError("--earlier", problem, "Give that of another time point.")
    return replace(findings, earlier=tuple(earlier))


def _read(path: Path, weights_sha256: str) -> Earlier:
    where = f"--earlier {path.name}"
    try:
        numbers: Json = parse_json(path.read_bytes())
        result, verdict = numbers["result"], str(numbers["quality"]["verdict"])
        sha256, code = str(numbers["model"]["weights_sha256"]), numbers["scan_sha256_begins"]
        when = str(numbers["scan_date"] or numbers["made_on"])
        ages = None if result is None else _ages(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"is no report ({type(error).__name__})."
        raise ConfigError(where, problem, "Give the .json of `brainage report`.") from error
    if ages is None:
        raise ConfigError(where, "gives no age: its scan failed the checks.", "Leave it out.")
    if sha256 != weights_sha256:
        problem = "comes from another model; ages of two models cannot be compared."
        raise ConfigError(where, problem, "Report on both scans with one model.")
    return Earlier(when, verdict, *ages, str(code or ""))


def _ages(result: Json) -> tuple[float, float | None]:
    predicted, age = float(result["predicted_age_years"]), result["age_years"]
    known = None if age is None else float(age)
    if not all(math.isfinite(years) for years in (predicted, known or 0.0)):
        raise ValueError("not finite")
    return predicted, known


def detectable_change(facts: Json) -> float | None:
    """Smallest change of one person's gap that retests of the model's cohort do not show, in years.

    1.96 · √2 · within-subject standard deviation (Weir 2005, doi:10.1519/15184.1); None where the
    model knows no retests.

    Examples
    --------
    >>> round(detectable_change({"retests": {"n_subjects": 10, "within_sd_years": 1.4}}), 2)
    3.88
    """
    known = facts.get("retests")
    return None if not known else 1.96 * math.sqrt(2) * float(known["within_sd_years"])


def list_earlier(findings: Findings) -> tuple[Row, ...]:
    """List earlier time points, each with what has changed since."""
    return tuple(
        Row(f"Earlier, {one.when}", _value(one), _note(one, findings)) for one in findings.earlier
    )


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
    doubt = "that scan was flagged; " if one.verdict != "ok" else ""
    change = _change(one, findings.brain_age_gap_years)
    limit = detectable_change(findings.model.facts)
    if change is None:
        return f"{doubt}without both ages no change of the gap is known"
    words = f"{doubt}gap changed by {change:+.1f} years: "
    if limit is None:
        return f"{words}this model does not know how much is chance"
    people = findings.model.facts["retests"]["n_subjects"]
    if abs(change) <= limit:
        return f"{words}chance alone gives up to {limit:.1f} (retests of {people} people)"
    return f"{words}more than the {limit:.1f} of chance (retests of {people} people)"
