"""Content of a report in words and pictures, shared by HTML, PDF and JSON."""

from dataclasses import dataclass
from datetime import date

from brainage.evaluation.normative import MatchedPercentile, corrected_gap, match_percentile
from brainage.evaluation.ood import FLAG_PERCENTILE
from brainage.report.doubts import list_doubts, list_warnings, nearer_share
from brainage.report.findings import Findings, ModelIdentity
from brainage.report.pictures import draw_age_line, draw_cohort, draw_planes
from brainage.types import Json

RESEARCH_ONLY = "Research use only. Not a diagnosis."
REPORT_VERSION = "1"
NAME_LENGTH = 80
_MEASURES = {
    "template_correlation": "Agreement with the template",
    "mask_overlap": "Overlap of the brain's outline",
    "white_over_grey": "Contrast, white over grey matter",
    "noise": "Noise",
    "sharpness": "Sharpness",
    "slice_mm": "Slice thickness, mm",
}
_KINDS = {
    "raw head": "whole head",
    "extracted brain": "brain without skull",
    "mni brain": "brain in standard space",
}
_VERDICT_WORDS = {
    "ok": "Scan passed the checks",
    "flagged": "Look at the scan before using the result",
    "failed": "Scan failed the checks: no age is given",
}


@dataclass(frozen=True)
class Row:
    """One line of a table: what, how much, and a remark."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with the words for those who cannot see it, and those below it."""

    png: bytes
    alternative: str
    caption: str


@dataclass(frozen=True)
class Report:
    """One page in words and pictures.

    Attributes
    ----------
    label, made_on, person_name : str
        Scan, date (ISO) and the name typed in for this report, or nothing.
    verdict, verdict_words : str
        Of the quality gate.
    tone : str
        Colour and symbol of the verdict: that of a flagged scan if there is any warning.
    warnings : tuple of str
        What must be read before the result.
    headline, interval : str
        Predicted age and its interval; empty for a failed scan.
    results : tuple of Row
        Gap and percentile, raw.
    corrected : Row, optional
        Bias-corrected gap, apart from the raw one.
    checks, volumes, model : tuple of Row
        Tables.
    limits : tuple of str
        Sentences.
    planes, age_line, cohort : Picture, optional
        What could be drawn.
    numbers : dict
        The same for machines.
    """

    label: str
    made_on: str
    person_name: str
    verdict: str
    verdict_words: str
    tone: str
    warnings: tuple[str, ...]
    headline: str
    interval: str
    results: tuple[Row, ...]
    corrected: Row | None
    checks: tuple[Row, ...]
    volumes: tuple[Row, ...]
    model: tuple[Row, ...]
    limits: tuple[str, ...]
    planes: Picture | None
    age_line: Picture | None
    cohort: Picture | None
    numbers: Json


def build_report(
    findings: Findings, *, person_name: str = "", made_on: date | None = None
) -> Report:
    """Put findings into words and pictures.

    Parameters
    ----------
    person_name : str
        Shown on this report only; control characters are dropped and it is cut at 80 letters.
    made_on : datetime.date, optional
        Today, if absent.
    """
    made = (made_on or date.today()).isoformat()
    name = "".join(letter for letter in person_name if letter.isprintable()).strip()[:NAME_LENGTH]
    age = findings.predicted_age_years if findings.verdict != "failed" else None
    percentile = _percentile(findings)
    corrected = _corrected(findings)
    warnings = list_warnings(findings)
    doubtful = findings.verdict == "ok" and bool(warnings)
    return Report(
        label=findings.label,
        made_on=made,
        person_name=name,
        verdict=findings.verdict,
        verdict_words=_VERDICT_WORDS[findings.verdict] + (", but read this first" * doubtful),
        tone="flagged" if doubtful else findings.verdict,
        warnings=warnings,
        headline="" if age is None else f"{age:.1f} years",
        interval=_interval_words(findings) if age is not None else "",
        results=_results(findings, percentile) if age is not None else (),
        corrected=_corrected_row(findings, corrected),
        checks=_checks(findings),
        volumes=_volumes(findings),
        model=_model_rows(findings.model),
        limits=_limits(findings.model),
        planes=_planes(findings),
        age_line=_age_line(findings) if age is not None else None,
        cohort=_cohort(findings) if age is not None else None,
        numbers=_numbers(findings, percentile, corrected, made, name),
    )


def _percentile(findings: Findings) -> MatchedPercentile | None:
    reference, gap = findings.model.reference, findings.brain_age_gap_years
    if reference is None or gap is None or findings.age_years is None:
        return None
    return match_percentile(reference, findings.age_years, gap)


def _corrected(findings: Findings) -> float | None:
    reference, gap = findings.model.reference, findings.brain_age_gap_years
    if reference is None or gap is None or findings.age_years is None:
        return None
    return corrected_gap(reference, findings.age_years, gap)


def _interval_words(findings: Findings) -> str:
    if findings.interval_years is None:
        return "no interval: the model is not calibrated for this level"
    low, high = findings.interval_years
    return f"{100 * findings.level:g} % interval {low:.1f} to {high:.1f} years"


def _results(findings: Findings, percentile: MatchedPercentile | None) -> tuple[Row, ...]:
    if findings.age_years is None:
        return (Row("Age at scan", "not given", "no gap without an age"),)
    gap = findings.brain_age_gap_years
    assert gap is not None
    rows = [
        Row("Age at scan", f"{findings.age_years:.1f} years", "as typed in"),
        Row("Brain-age gap, raw", f"{gap:+.1f} years", _gap_words(findings)),
    ]
    if percentile is None:
        known = findings.model.reference is not None
        why = "too few people of this age" if known else "the model keeps no held-out people"
        rows.append(Row("Percentile of the gap", "not known", why))
    else:
        people = f"{percentile.n} held-out people within {percentile.window_years:g} years"
        rank = _rank_words(percentile.percentile)
        share = f"{rank} % of {people} have a smaller gap" if rank.isdigit() else f"among {people}"
        rows.append(Row("Percentile of the gap", rank, share))
    return tuple(rows)


def _gap_words(findings: Findings) -> str:
    """Say which way the gap points, and whether a gap of this size is usual."""
    age, predicted = findings.age_years or 0.0, findings.predicted_age_years or 0.0
    words = f"looks {'older' if predicted > age else 'younger'} than the age"
    if findings.interval_years is None:
        return words
    low, high = findings.interval_years
    return f"{words}, which lies {'in' if low <= age <= high else 'outside'} the interval"


def _rank_words(percentile: float) -> str:
    if 0.0 < percentile < 100.0:
        return f"{percentile:.0f}"
    return "above all" if percentile else "below all"


def _corrected_row(findings: Findings, corrected: float | None) -> Row | None:
    if corrected is None or findings.verdict == "failed":
        return None
    return Row(
        "Gap corrected for age bias",
        f"{corrected:+.1f} years",
        "uses the age itself (Beheshti 2019): for comparing groups, never a measure of accuracy",
    )


def _checks(findings: Findings) -> tuple[Row, ...]:
    kind = _KINDS.get(findings.recognised, findings.recognised)
    rows = [Row("Taken for", kind)] if kind else []
    rows += [
        Row(words, f"{findings.measures[name]:.2f}")
        for name, words in _MEASURES.items()
        if name in findings.measures
    ]
    if findings.ood_percentile is not None:
        note = f"warning from {FLAG_PERCENTILE:.0f} %"
        rows.append(Row("More usual training scans", nearer_share(findings), note))
    return tuple(rows)


def _volumes(findings: Findings) -> tuple[Row, ...]:
    volumes = findings.volumes_ml
    if not volumes:
        return ()
    total = sum(volumes.values())
    names = {"grey": "Grey matter", "white": "White matter", "fluid": "Fluid"}
    return tuple(
        Row(words, f"{volumes[name]:.0f} ml", f"{100 * volumes[name] / total:.0f} % of the three")
        for name, words in names.items()
    )


def _model_rows(model: ModelIdentity) -> tuple[Row, ...]:
    facts = model.facts
    cohort, metrics = facts.get("cohort", {}), facts.get("metrics", {})
    members = facts.get("members", 1)
    kind = f"{facts.get('network', '?')}, {facts.get('method', '?')}"
    error = metrics.get("mae_years")
    ages = cohort.get("train_age_range_years")
    rows = [
        Row("Model", model.name),
        Row("Version", model.version),
        Row("Weights, SHA-256", model.sha256[:16]),
        Row("Network", f"{members} × {kind}" if members > 1 else kind),
    ]
    if ages:
        rows.append(Row("Trained on", f"{cohort.get('n_train', '?')} scans, {_ages(ages)}"))
    if error is not None:
        rows.append(Row("Error on held-out scans", f"{error:.1f} years (mean, n {metrics['n']})"))
    return tuple(rows)


def _ages(ages: list[float]) -> str:
    return f"{ages[0]:.0f} to {ages[1]:.0f} years"


def _limits(model: ModelIdentity) -> tuple[str, ...]:
    ages = model.facts.get("cohort", {}).get("train_age_range_years")
    known = f", {_ages(ages)}" if ages else ""
    return (
        "A brain-age gap is the error of a prediction. It mixes biology with scanner, sequence, "
        "motion and chance, and is no measure of health.",
        f"The interval holds for scans like those of the model's cohort{known}; another scanner "
        "can shift the prediction by years.",
        "Volumes come from a three-class mixture on a coarse grid and are approximate. The map, "
        "if shown, tells what the network read, not what ages the brain.",
    )


def _planes(findings: Findings) -> Picture | None:
    if findings.brain is None:
        return None
    caption = "This scan in MNI space with the brain's outline; below it the template with the same"
    if findings.attribution is not None:
        caption += (
            f"; third row: {findings.attribution.method.replace('_', ' ')} map, red looks older, "
            f"blue younger ({findings.attribution.unit})"
        )
    return Picture(
        draw_planes(findings),
        "Sagittal, coronal and axial plane of the scan with the outline of its brain, and the "
        "same planes of the template",
        f"{caption}. The patient's left is on the left.",
    )


def _age_line(findings: Findings) -> Picture:
    words = f"Line of ages: predicted {findings.predicted_age_years:.1f} years"
    if findings.age_years is not None:
        words += f", age {findings.age_years:.1f} years"
    return Picture(draw_age_line(findings), f"{words}; {_interval_words(findings)}", "")


def _cohort(findings: Findings) -> Picture | None:
    reference = findings.model.reference
    if reference is None or not reference.age_years.size:
        return None
    source = {"held_out": "held-out", "out_of_fold": "out-of-fold"}.get(reference.source, "")
    return Picture(
        draw_cohort(findings, reference),
        f"Scatter of age and predicted age of {reference.age_years.size} people of the model's "
        "cohort, with this person in orange",
        f"This person (orange) among {reference.age_years.size} {source} people of the model's "
        "cohort; dashed: predicted = age.",
    )


def _numbers(
    findings: Findings,
    percentile: MatchedPercentile | None,
    corrected: float | None,
    made: str,
    name: str,
) -> Json:
    failed = findings.verdict == "failed"
    low, high = findings.interval_years or (None, None)
    result: Json = {
        "age_years": findings.age_years,
        "sex": findings.sex or None,
        "predicted_age_years": findings.predicted_age_years,
        "interval_low_years": low,
        "interval_high_years": high,
        "level": findings.level,
        "brain_age_gap_years": findings.brain_age_gap_years,
        "gap_percentile": percentile.percentile if percentile else None,
        "gap_percentile_n": percentile.n if percentile else None,
        "gap_percentile_window_years": percentile.window_years if percentile else None,
        "brain_age_gap_corrected_years": corrected,
        "ood_percentile": findings.ood_percentile,
    }
    return {
        "report_version": REPORT_VERSION,
        "notice": RESEARCH_ONLY,
        "warnings": [*list_doubts(findings), *findings.reasons],
        "made_on": made,
        "scan": findings.label,
        "name": name or None,
        "quality": {
            "verdict": findings.verdict,
            "reasons": list(findings.reasons),
            "recognised": findings.recognised or None,
            "measures": {key: float(value) for key, value in findings.measures.items()},
        },
        "result": None if failed else result,
        "volumes_ml": {key: round(float(v), 1) for key, v in findings.volumes_ml.items()},
        "model": {
            "name": findings.model.name,
            "version": findings.model.version,
            "weights_sha256": findings.model.sha256,
            "network": findings.model.facts.get("network"),
            "method": findings.model.facts.get("method"),
            "train_age_range_years": findings.model.facts.get("cohort", {}).get(
                "train_age_range_years"
            ),
        },
        "limits": list(_limits(findings.model)),
    }
