"""Examine a scan with a model, down to findings."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.evaluation.bounds import DEFAULT_LEVEL
from brainage.inference.attribution import (
    explain_prepared,
    load_reference,
    region_table,
    to_density,
)
from brainage.inference.header import find_contradicted, split_contradicted
from brainage.inference.model import Model
from brainage.inference.predict import SAME_VOXELS, check_ages, predict_columns
from brainage.model.bundle import Bundle
from brainage.prepared.arrays import normalise
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import PreparedStore
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.quality import load_sinus_course
from brainage.preprocessing.regions import OUTSIDE, load_regions
from brainage.preprocessing.skull import load_skull
from brainage.report.findings import AttributionMap, Findings, ModelIdentity, identify_model
from brainage.report.volumes import load_soft_tissues, own_volumes_ml, picture_scan
from brainage.scans.dicom.choice import split_choice
from brainage.types import DEFAULT_MAP, FloatArray, HalfArray, Verdict, Volume

CODE_LENGTH = 6
_SHOWN_REGIONS = 5


@dataclass(frozen=True)
class ExamineOptions:
    """What is known of the person, and what is asked for.

    Attributes
    ----------
    label : str
        What the report calls the scan.
    age_years, sex : float and str, optional
        As typed in; the prediction does not use them.
    level : float
        Share of ages that the interval shall hold.
    map_method : str
        One of `brainage.types.MAP_METHODS`; empty: no map.
    cache_dir : pathlib.Path, optional
        Folder that keeps where the brain lies; absent: nothing of the scan is kept.
    """

    label: str = "scan"
    age_years: float | None = None
    sex: str = ""
    level: float = DEFAULT_LEVEL
    map_method: str = ""
    cache_dir: Path | None = None


def _ignore(stage: str) -> None:
    """Tell nobody."""


def examine_scan(
    model: Model,
    path: str | Path,
    options: ExamineOptions,
    *,
    on_stage: Callable[[str], None] = _ignore,
) -> Findings:
    """Check, predict and measure one scan; a scan that the gate fails has no age.

    Parameters
    ----------
    on_stage : callable
        Called with the name of each stage as it begins: ``locate``, ``pictures``, ``predict``,
        ``volumes``, ``map``.

    Raises
    ------
    BundleError
        If the model was trained on images.
    VolumeError
        If the scan cannot be read.
    PreparationError
        If no brain is found at all.
    """
    bundle = model.bundle
    check_ages(bundle.config)
    settings = bundle.config.preprocessing
    on_stage("locate")
    source = ScanSource(str(path), options.label)
    store = None if options.cache_dir is None else PreparedStore(options.cache_dir)
    code = hash_source(source)[:CODE_LENGTH]
    read = process_source(source, settings, store)
    processed = read.processed
    on_stage("pictures")
    pictured = picture_scan(read, settings, options.label)
    findings = Findings(
        label=options.label,
        verdict=processed.verdict,
        reasons=processed.reasons,
        recognised=processed.recognised,
        measures=processed.measures,
        model=identify_model(model),
        level=options.level,
        age_years=options.age_years,
        sex=options.sex,
        voxel_mm=read.scan.volume.spacing_mm,
        series=read.scan.series,
        contradicted=find_contradicted(
            options.age_years, options.sex, read.scan.age_years, read.scan.sex
        ),
        code=code,
        image=pictured.image,
        mask=pictured.mask,
    )
    if processed.verdict == "failed":
        return findings
    try:
        array = normalise(processed, settings, options.label).array[None]
    except PreparationError as error:  # a brain without contrast
        return replace(findings, verdict="failed", reasons=(*findings.reasons, error.problem))
    on_stage("predict")
    columns = predict_columns(bundle, array, options.level)
    findings = replace(findings, **_numbers({name: columns[name][0] for name in columns}))
    on_stage("volumes")
    findings = replace(findings, volumes_ml=own_volumes_ml(pictured))
    if options.map_method:
        on_stage("map")
        findings = replace(findings, attribution=_explain(bundle, array[0], options.map_method))
    return findings


def get_ready(bundle: Bundle) -> None:
    """Load all that is the same for every scan, so that the first takes no longer than the next."""
    settings = bundle.config.preprocessing
    load_skull().surface.get_ready()
    load_sinus_course()
    load_soft_tissues()
    load_regions(settings)
    # Convolutions are compiled when their shapes first come.
    explain_prepared(bundle, load_reference(settings))
    # Pages import it as late as this.
    import brainage.report.page_pdf  # noqa: F401


def predicted_findings(
    row: Mapping[str, Any], verdict: Verdict, reason: str, model: ModelIdentity, level: float
) -> Findings:
    """Return findings from a row of a prediction table and of its ledger, without the scan.

    Parameters
    ----------
    row : mapping
        `predicted_age_years` and, where known, `age_years`, `sex`, `interval_low_years`,
        `interval_high_years`, `ood_percentile`.
    verdict, reason : str
        Of the ledger.
    """
    # Of a scan that is ok the ledger tells how it was read, which is no reason for doubt.
    series, reason = split_choice(reason)
    parts, contradicted = split_contradicted([*filter(None, reason.split("; "))])
    # A page names no other person's scan.
    parts = tuple(re.sub(f"^{SAME_VOXELS} .*", f"{SAME_VOXELS} another scan", one) for one in parts)
    reasons = parts if verdict != "ok" else ()
    # Tables of two time points may call their scans alike.
    named = f"{row.get('scan_id', '')} {row.get('predicted_age_years')}"
    code = hashlib.sha256(named.encode()).hexdigest()[:CODE_LENGTH]
    age, sex = row.get("age_years"), row.get("sex")
    return Findings(
        label="scan",
        verdict=verdict,
        reasons=reasons,
        recognised="",
        measures={},
        model=model,
        level=level,
        age_years=None if pd.isna(age) else float(age),
        sex="" if pd.isna(sex) else str(sex),
        series=series,
        contradicted=contradicted,
        code=code,
        **_numbers(row),
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return predicted age, interval and percentile as findings hold them: absent, not NaN."""

    def known(name: str) -> float | None:
        value = row.get(name)
        return None if value is None or pd.isna(value) else float(value)

    low, high = known("interval_low_years"), known("interval_high_years")
    return {
        "predicted_age_years": known("predicted_age_years"),
        "interval_years": None if low is None or high is None else (low, high),
        "ood_percentile": known("ood_percentile"),
    }


def _explain(bundle: Bundle, array: HalfArray, method: str) -> AttributionMap:
    settings = bundle.config.preprocessing
    found = explain_prepared(bundle, array, method)
    density, unit = to_density(found.attribution, method, settings.spacing_mm)
    adds_up = method == DEFAULT_MAP
    return AttributionMap(
        Volume(density, grid_affine(settings)),
        method,
        unit,
        found.predicted_age_years,
        found.reference_age_years,
        _sum_regions(found.attribution, settings) if adds_up else (),
    )


def _sum_regions(
    attribution: FloatArray, settings: PreprocessingConfig
) -> tuple[tuple[str, float], ...]:
    """Sum a map over regions, both sides together; the smallest are one."""
    regions = load_regions(settings)
    names = [name.removeprefix("left ").removeprefix("right ") for name in regions.names]
    table = region_table([attribution], regions.labels, names)
    sums = table.groupby("region")["net"].sum()
    rest = float(sums.pop(OUTSIDE)) if OUTSIDE in sums else 0.0
    ranked = sums.reindex(sums.abs().sort_values(ascending=False).index)
    rest += float(ranked.iloc[_SHOWN_REGIONS:].sum())
    shown = [(str(name), float(years)) for name, years in ranked.iloc[:_SHOWN_REGIONS].items()]
    return (*shown, ("all other", rest))
