"""Findings as a DICOM measurement report: Comprehensive 3D SR after template TID 1500.

Templates: https://dicom.nema.org/medical/dicom/current/output/html/part16.html; by highdicom
(Bridge et al. 2022, doi:10.1007/s10278-022-00683-y). What has no standard code has one of the
private scheme 99BRAINAGE.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes

from brainage.report.content import RESEARCH_ONLY, Report
from brainage.report.findings import Findings
from brainage.scans.dicom.source import MANUFACTURER

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SCHEME = "99BRAINAGE"
_YEARS = CodedConcept("a", "UCUM", "year")
_MILLILITRES = CodedConcept("mL", "UCUM", "milliliter")
_PERCENT = CodedConcept("%", "UCUM", "percent")
_COMMENT = CodedConcept("121106", "DCM", "Comment")
_PROCEDURE = CodedConcept("24590-2", "LN", "MR Brain")
_TEXT_LENGTH = 1024
# Findings in words, by their names in the report's numbers: meanings have at most 64 letters.
_RESULTS = {
    "predicted_age_years": ("brain-age", "Predicted age of the brain", _YEARS),
    "interval_low_years": ("interval-low", "Lower limit of the interval of predicted age", _YEARS),
    "interval_high_years": ("interval-top", "Upper limit of the interval of predicted age", _YEARS),
    "level_percent": ("interval-level", "Share of ages that the interval shall hold", _PERCENT),
    "age_years": ("age", "Chronological age as given for the report", _YEARS),
    "brain_age_gap_years": ("gap", "Brain-age gap, predicted minus given age", _YEARS),
    "gap_percentile": ("gap-percentile", "Percentile of the gap among held-out people", _PERCENT),
    "ood_percentile": ("unlike", "Share of training scans that are more usual", _PERCENT),
}  # fmt: skip
_VERDICTS = {"ok": "Passed", "flagged": "Flagged: look at the scan", "failed": "Failed: no age"}
_TISSUES = {
    "grey": codes.SCT.GrayMatter,
    "white": codes.SCT.WhiteMatter,
    "fluid": codes.SCT.CerebrospinalFluid,
    "ventricles": codes.SCT.BrainVentricle,
}


def build_sr(
    findings: Findings, report: Report, sources: "Sequence[Dataset]", uids: Sequence[str]
) -> Comprehensive3DSR:
    """Build a measurement report in the study of its source.

    Parameters
    ----------
    findings : Findings
        What was found; a failed scan has no measurement, only its verdict and reasons.
    report : Report
        The same in words.
    sources : sequence of pydicom.dataset.Dataset
        As `brainage.scans.dicom.source.read_source` returns them.
    uids : sequence of str (3,)
        UIDs of its series, of itself, and of the measured brain.
    """
    series_uid, own_uid, tracking_uid = uids
    model = findings.model
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracking_uid, identifier="brain"),
        algorithm_id=AlgorithmIdentification(
            name=f"brainage, {model.name}",
            version=model.version,
            parameters=[f"weights SHA-256 {model.sha256}", f"offset {model.offset_years:g} years"],
        ),
        finding_sites=[FindingSite(codes.SCT.Brain)],
        measurements=_measurements(report) or None,
        qualitative_evaluations=[
            QualitativeEvaluation(
                _own("quality-gate", "Quality gate"),
                _own(findings.verdict, _VERDICTS[findings.verdict]),
            )
        ],
        source_images=[
            SourceImageForMeasurementGroup(one.SOPClassUID, one.SOPInstanceUID) for one in sources
        ],
    )
    for text in (RESEARCH_ONLY, *report.numbers["warnings"]):
        group[0].ContentSequence.append(_comment(text))
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_device(model.sha256)),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return Comprehensive3DSR(
        evidence=list(sources),
        content=content[0],
        series_instance_uid=series_uid,
        series_number=9901,
        sop_instance_uid=own_uid,
        instance_number=1,
        series_description="Brain age, measurements",
        is_complete=True,
        is_final=False,
        coding_schemes=[_scheme()],
        **equipment(findings),
    )


def equipment(findings: Findings) -> dict[str, Any]:
    """Return what says that this program made an object, as highdicom's classes take it."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": "brainage",
        "software_versions": findings.model.version[:64],
        "device_serial_number": findings.model.sha256[:16],
    }


def _measurements(report: Report) -> list[Measurement]:
    result = dict(report.numbers["result"] or {})
    if result.get("interval_low_years") is not None:
        result["level_percent"] = 100 * result["level"]
    found = [
        Measurement(name=_own(code, meaning), value=round(float(result[name]), 2), unit=unit)
        for name, (code, meaning, unit) in _RESULTS.items()
        if result.get(name) is not None
    ]
    volumes = report.numbers["volumes_ml"]
    return found + [
        Measurement(
            name=codes.SCT.Volume,
            value=float(volumes[name]),
            unit=_MILLILITRES,
            finding_sites=[FindingSite(tissue)],
        )
        for name, tissue in _TISSUES.items()
        if name in volumes
    ]


def _own(code: str, meaning: str) -> CodedConcept:
    return CodedConcept(code, SCHEME, meaning)


def _comment(text: str) -> TextContentItem:
    return TextContentItem(_COMMENT, text[:_TEXT_LENGTH], RelationshipTypeValues.CONTAINS)


def _device(sha256: str) -> ObserverContext:
    from pydicom.uid import generate_uid

    uid = generate_uid(entropy_srcs=["brainage", sha256])
    attributes = DeviceObserverIdentifyingAttributes(
        uid=uid, name="brainage", manufacturer_name=MANUFACTURER
    )
    return ObserverContext(codes.DCM.Device, attributes)


def _scheme() -> CodingSchemeIdentificationItem:
    return CodingSchemeIdentificationItem(SCHEME, name="Terms of the program brainage")
