"""The same as a report for machines: plain values."""

from brainage.evaluation.normative import MatchedPercentile
from brainage.prepared.store import CODE_VERSION
from brainage.report.doubts import list_doubts
from brainage.report.earlier import detectable_change, earlier_numbers
from brainage.report.findings import Findings, Typed
from brainage.report.words import RESEARCH_ONLY
from brainage.types import Json

REPORT_VERSION = "2"


def list_numbers(
    findings: Findings,
    typed: Typed,
    made: str,
    percentile: MatchedPercentile | None,
    corrected: float | None,
    limits: tuple[str, ...],
) -> Json:
    """List everything of a report as plain values; what is not known is None."""
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
        "earlier": earlier_numbers(findings),
    }
    return {
        "report_version": REPORT_VERSION,
        "preparation_version": CODE_VERSION,
        "notice": RESEARCH_ONLY,
        "warnings": [*list_doubts(findings), *findings.reasons],
        "made_on": made,
        "scan": findings.label,
        "scan_sha256_begins": findings.code or None,
        "dicom_series": findings.series or None,
        "name": typed.person_name or None,
        "study_id": typed.study_id or None,
        "scan_date": typed.scan_date or None,
        "quality": {
            "verdict": findings.verdict,
            "reasons": list(findings.reasons),
            "recognised": findings.recognised or None,
            "measures": {key: float(value) for key, value in findings.measures.items()},
        },
        "result": None if failed else result,
        "map": _map_numbers(findings),
        "volumes_ml": {key: round(float(v), 1) for key, v in findings.volumes_ml.items()},
        "model": {
            "name": findings.model.name,
            "version": findings.model.version,
            "weights_sha256": findings.model.sha256,
            "offset_years": findings.model.offset_years,
            "network": findings.model.facts.get("network"),
            "method": findings.model.facts.get("method"),
            "train_age_range_years": findings.model.facts.get("cohort", {}).get(
                "train_age_range_years"
            ),
            "smallest_detectable_change_years": detectable_change(findings.model.facts),
        },
        "limits": list(limits),
    }


def _map_numbers(findings: Findings) -> Json | None:
    attribution = findings.attribution
    if attribution is None:
        return None
    return {
        "method": attribution.method,
        "unit": attribution.unit,
        "reference_age_years": attribution.reference_age_years,
        "regions_years": dict(attribution.regions),
    }
