"""List why a result may not be trusted: what is read before it."""

import re
from math import floor

from brainage.evaluation.metrics import describe_unbeaten
from brainage.evaluation.ood import FLAG_PERCENTILE
from brainage.inference.header import describe_contradicted
from brainage.report.findings import Findings

_SHOWN_REASONS = 4


def in_words(reason: str) -> str:
    """Return a reason of the quality gate without its measure's name, which is for programs.

    >>> in_words("thick slices (slice_mm 5, expected at most 4)")
    'thick slices (5, expected at most 4)'
    """
    return re.sub(r"\([a-z_]+ (-?[\d.]+(?:e[-+]?\d+)?, expected )", r"(\1", reason)


def list_warnings(findings: Findings) -> tuple[str, ...]:
    """List what must be read before the result, as much of it as a page has room for."""
    reasons = [in_words(reason) for reason in findings.reasons[:_SHOWN_REASONS]]
    if len(findings.reasons) > _SHOWN_REASONS:
        reasons.append(f"and {len(findings.reasons) - _SHOWN_REASONS} more, see the JSON file")
    return (*list_doubts(findings), *reasons)


def list_doubts(findings: Findings) -> tuple[str, ...]:
    """List why the model may not be for this scan or person, whatever the scan's quality."""
    doubts = []
    cohort = findings.model.facts.get("cohort", {})
    if cohort.get("synthetic"):
        doubts.append("the model was trained on synthetic phantoms: its ages mean nothing")
    unbeaten = describe_unbeaten(findings.model.facts.get("metrics", {}))
    if unbeaten:
        doubts.append(unbeaten)
    if findings.ood_percentile is not None and findings.ood_percentile >= FLAG_PERCENTILE:
        doubts.append(
            f"the scan is unlike the training scans, {nearer_share(findings)} of held-out ones are "
            "more usual: the age may be far off and its interval too narrow"
        )
    doubts += [describe_contradicted(name) for name in findings.contradicted]
    ages = cohort.get("train_age_range_years")
    if ages and findings.age_years is not None and not ages[0] <= findings.age_years <= ages[1]:
        doubts.append(
            f"age {findings.age_years:g} lies outside the training ages, {ages[0]:.0f} to "
            f"{ages[1]:.0f} years"
        )
    return tuple(doubts)


def is_unlike(findings: Findings) -> bool:
    """Whether a scan is unlike those of the model's cohort: no comparison with it is fair."""
    synthetic = findings.model.facts.get("cohort", {}).get("synthetic", False)
    far = findings.ood_percentile is not None and findings.ood_percentile >= FLAG_PERCENTILE
    return findings.verdict != "ok" or far or bool(synthetic)


def nearer_share(findings: Findings) -> str:
    """Return the share of more usual training scans, rounded down: 98.9 is not 99."""
    share = findings.ood_percentile or 0.0
    return "all" if share >= 100.0 else f"{floor(share)} %"
