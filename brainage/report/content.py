"""Content of a report in words and pictures, shared by HTML, PDF and JSON."""

import re
from dataclasses import dataclass
from datetime import date

from brainage.cohorts.cells import parse_sex
from brainage.evaluation.left_out import FAR_YEARS, pool_left_out
from brainage.evaluation.normative import (
    MatchedPercentile,
    corrected_gap,
    held_out_metrics,
    match_percentile,
)
from brainage.plotting.planes import ORIENTATION_WORDS, RADIOLOGICAL, Orientation
from brainage.report.checks import Row, list_checks
from brainage.report.doubts import is_unlike, list_warnings
from brainage.report.earlier import list_earlier
from brainage.report.findings import NOTHING_TYPED, Findings, ModelIdentity, Typed
from brainage.report.numbers import list_numbers
from brainage.report.pictures import draw_age_line, draw_cohort, draw_map, draw_planes
from brainage.report.volume_curves import (
    caption_volumes,
    curves_for,
    draw_volumes,
    list_volumes,
)
from brainage.report.words import (
    CALIBRATE,
    VERDICT_WORDS,
    gap_sentence,
    headline,
    interval_note,
    interval_sentence,
    map_caption,
)
from brainage.report.words import (
    RESEARCH_ONLY as RESEARCH_ONLY,
)
from brainage.types import Json

NAME_LENGTH, TYPED_LENGTH = 80, 40
_SEXES = {"F": "female", "M": "male"}


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
    code : str
        Tells reports apart without naming anybody: the study id if one was typed in, else the
        first digits of the scan's SHA-256.
    subject : tuple of str
        What is known of person and scan, for a line below the title.
    verdict, verdict_words : str
        Of the quality gate.
    tone : str
        Colour and symbol of the verdict: that of a flagged scan if there is any warning.
    warnings : tuple of str
        What must be read before the result.
    headline, interval, interval_note, gap : str
        The answer: predicted age, its interval as a sentence with an explanation, and the gap if
        an age was given; empty for a failed scan.
    muted : str
        Why comparisons with the cohort (`results`, `corrected`, `cohort`) are to be shown pale,
        and what to do; empty where they are fair.
    results : tuple of Row
        Gap and percentile, raw, and earlier time points.
    corrected : Row, optional
        Bias-corrected gap, apart from the raw one.
    checks, volumes, model : tuple of Row
        Tables.
    contributions : tuple of Row
        What regions add to the age by a map that adds up.
    limits : tuple of str
        Sentences.
    planes, map, age_line, cohort, volume_curves : Picture, optional
        What could be drawn.
    orientation : str
        Side convention of all pictures.
    numbers : dict
        The same for machines.
    """

    label: str
    made_on: str
    person_name: str
    code: str
    subject: tuple[str, ...]
    verdict: str
    verdict_words: str
    tone: str
    warnings: tuple[str, ...]
    headline: str
    interval: str
    interval_note: str
    gap: str
    muted: str
    results: tuple[Row, ...]
    corrected: Row | None
    checks: tuple[Row, ...]
    volumes: tuple[Row, ...]
    contributions: tuple[Row, ...]
    model: tuple[Row, ...]
    limits: tuple[str, ...]
    planes: Picture | None
    map: Picture | None
    age_line: Picture | None
    cohort: Picture | None
    volume_curves: Picture | None
    orientation: Orientation
    numbers: Json

    @property
    def file_name(self) -> str:
        """Name for its files, without suffix: tells people apart and names nobody."""
        return f"brainage-{re.sub(r'[^A-Za-z0-9_-]+', '-', self.code).strip('-')}-{self.made_on}"


def build_report(
    findings: Findings,
    typed: Typed = NOTHING_TYPED,
    *,
    made_on: date | None = None,
    orientation: Orientation = RADIOLOGICAL,
) -> Report:
    """Put findings into words and pictures.

    Parameters
    ----------
    typed : Typed
        Shown on this report only.
    made_on : datetime.date, optional
        Today, if absent.
    orientation : {"radiological", "neurological"}
        Whether the patient's left is on the right or the left of all pictures.
    """
    made = (made_on or date.today()).isoformat()
    typed = Typed(
        _clean(typed.person_name, NAME_LENGTH),
        _clean(typed.study_id, TYPED_LENGTH),
        _clean(typed.scan_date, TYPED_LENGTH),
    )
    answered = findings.verdict != "failed" and findings.predicted_age_years is not None
    percentile = _percentile(findings)
    corrected = _corrected(findings)
    warnings = list_warnings(findings)
    doubtful = findings.verdict == "ok" and bool(warnings)
    limits = _limits(findings.model)
    return Report(
        label=findings.label,
        made_on=made,
        person_name=typed.person_name,
        code=typed.study_id or findings.code or findings.label,
        subject=_subject(findings, typed),
        verdict=findings.verdict,
        verdict_words=VERDICT_WORDS[findings.verdict] + (", but read this first" * doubtful),
        tone="flagged" if doubtful else findings.verdict,
        warnings=warnings,
        headline=headline(findings) if answered else "",
        interval=interval_sentence(findings) if answered else "",
        interval_note=interval_note(findings) if answered else "",
        gap=gap_sentence(findings) if answered else "",
        muted=CALIBRATE if answered and is_unlike(findings) else "",
        results=(*_results(findings, percentile), *list_earlier(findings)) if answered else (),
        corrected=_corrected_row(findings, corrected),
        checks=list_checks(findings),
        volumes=list_volumes(findings),
        contributions=_contributions(findings) if answered else (),
        model=_model_rows(findings.model),
        limits=limits,
        planes=_planes(findings, orientation),
        map=_map(findings, orientation) if answered else None,
        age_line=_age_line(findings) if answered else None,
        cohort=_cohort(findings) if answered else None,
        volume_curves=_volume_curves(findings),
        orientation=orientation,
        numbers=list_numbers(findings, typed, made, percentile, corrected, limits),
    )


def _clean(text: str, length: int) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()[:length]


def _subject(findings: Findings, typed: Typed) -> tuple[str, ...]:
    age = findings.age_years
    parts = [
        f"study id {typed.study_id}" if typed.study_id else "",
        _SEXES.get(parse_sex(findings.sex), findings.sex),
        "" if age is None else f"{age:g} years old",
        f"scanned {typed.scan_date}" if typed.scan_date else "",
        f"scan {findings.code}" if findings.code else "",
    ]
    return tuple(part for part in parts if part)


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


def _results(findings: Findings, percentile: MatchedPercentile | None) -> tuple[Row, ...]:
    if findings.age_years is None:
        return (Row("Age at scan", "not given", "no gap without an age"),)
    gap = findings.brain_age_gap_years
    assert gap is not None
    rows = [
        Row("Age at scan", f"{findings.age_years:.1f} years", "as typed in"),
        Row("Brain-age gap, raw", f"{gap:+.1f} years", "predicted minus age"),
    ]
    if percentile is None:
        known = findings.model.reference is not None
        why = "too few people of this age" if known else "the model keeps no held-out people"
        rows.append(Row("Percentile of the gap", "not known", why))
    else:
        window = f"within {percentile.window_years:g} years of this age"
        people = f"{percentile.n} people kept out of training, {window}"
        rank = _rank_words(percentile.percentile)
        share = f"{rank} % of {people}, have a lower gap" if rank.isdigit() else f"among {people}"
        rows.append(Row("Percentile of the gap", rank, share))
    return tuple(rows)


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


def _model_rows(model: ModelIdentity) -> tuple[Row, ...]:
    facts = model.facts
    cohort, metrics = facts.get("cohort", {}), held_out_metrics(facts)
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
    if model.offset_years:
        rows.append(Row("Calibrated", f"{-model.offset_years:+.1f} years for this site"))
    if ages:
        rows.append(Row("Trained on", f"{cohort.get('n_train', '?')} scans, {_ages(ages)}"))
    if error is not None:
        rows.append(Row("Error on held-out scans", f"{error:.1f} years (mean, n {metrics['n']})"))
    if pooled := pool_left_out(facts):
        n, mae, far = pooled
        told = f"{mae:.1f} years (mean, n {n}), more than {FAR_YEARS:g} in {far:.0%}"
        rows.append(Row("Error on scanners left out", told))
    return tuple(rows)


def _ages(ages: list[float]) -> str:
    return f"{ages[0]:.0f} to {ages[1]:.0f} years"


def _limits(model: ModelIdentity) -> tuple[str, ...]:
    ages = model.facts.get("cohort", {}).get("train_age_range_years")
    known = f", {_ages(ages)}" if ages else ""
    return (
        "A brain-age gap is the error of a prediction. It mixes biology with scanner, sequence, "
        "motion and chance, and is no measure of health.",
        f"{_interval_limit(model.facts)}{known}; another scanner can shift the prediction by "
        "years.",
        "Volumes come from a mixture of three tissues at 2 mm and are approximate. The map, if "
        "shown, tells what the network read, not what ages the brain.",
    )


def _interval_limit(facts: Json) -> str:
    if facts.get("left_out_calibration"):
        return "The interval is that of healthy people on scanners left out of training"
    return "The interval holds for scans like those of the model's cohort"


def _contributions(findings: Findings) -> tuple[Row, ...]:
    attribution = findings.attribution
    if attribution is None or not attribution.regions:
        return ()
    reference = round(attribution.reference_age_years, 1)
    predicted = round(attribution.predicted_age_years, 1)
    added = [(name.capitalize(), round(years, 1)) for name, years in attribution.regions]
    left_over = round(predicted - reference - sum(years for _, years in added), 1)
    if left_over:
        added.append(("Rounding and approximation", left_over))
    rows = [Row(name, f"{years:+.1f} years") for name, years in added]
    start = Row("The template alone", f"{reference:.1f} years")
    return (start, *rows, Row("Predicted age", f"{predicted:.1f} years"))


def _planes(findings: Findings, orientation: Orientation) -> Picture | None:
    if findings.brain is None:
        return None
    return Picture(
        draw_planes(findings, orientation),
        "Axial, coronal and sagittal planes of the scan with the outline of its brain, and beside "
        "them one plane each of the template with the same outline",
        "This scan in standard space (MNI) with the outline of its brain; at the right the "
        f"template with the same outline. {ORIENTATION_WORDS[orientation]}",
    )


def _map(findings: Findings, orientation: Orientation) -> Picture | None:
    if findings.brain is None or findings.attribution is None:
        return None
    low, high = findings.attribution.legend
    return Picture(
        draw_map(findings, orientation),
        f"The same planes with a map: blue {low}, red {high}, in {findings.attribution.unit}",
        f"{map_caption(findings.attribution)} {ORIENTATION_WORDS[orientation]}",
    )


def _age_line(findings: Findings) -> Picture:
    words = f"Line of ages: predicted {findings.predicted_age_years:.1f} years"
    if findings.age_years is not None:
        words += f", age {findings.age_years:.1f} years"
    return Picture(draw_age_line(findings), f"{words}. {interval_sentence(findings)}", "")


def _cohort(findings: Findings) -> Picture | None:
    reference = findings.model.reference
    if reference is None or not reference.age_years.size:
        return None
    return Picture(
        draw_cohort(findings, reference),
        f"Scatter of age and predicted age of {reference.age_years.size} people of the model's "
        "cohort, with this person in orange",
        f"This person (orange) among {reference.age_years.size} people of the model's cohort, each "
        "predicted by networks trained without them; dashed: predicted = age.",
    )


def _volume_curves(findings: Findings) -> Picture | None:
    found = curves_for(findings)
    if found is None:
        return None
    words = [f"{row.name} {row.value}: {row.note}" for row in list_volumes(findings)]
    return Picture(draw_volumes(findings), ". ".join(words), caption_volumes(findings, found[0]))
