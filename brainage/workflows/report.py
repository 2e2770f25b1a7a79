"""`brainage report`: one page on one scan, as HTML, PDF and JSON."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from brainage.config import with_changes
from brainage.errors import CohortError, ConfigError
from brainage.model.bundle import load_bundle
from brainage.report import (
    ExamineOptions,
    Findings,
    build_report,
    examine_scan,
    identify_model,
    predicted_findings,
    write_report,
)
from brainage.types import MAP_METHODS, Verdict
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.models import resolve_model
from brainage.workflows.predict import check_level, ledger_path

_OLDEST_YEARS = 120.0


@dataclass(frozen=True)
class ReportOptions:
    """What is told about the person and the page."""

    output: Path
    age_years: float | None = None
    sex: str = ""
    person_name: str = ""
    level: float = 0.9
    map_method: str = ""
    series: str | None = None


def report_scan(scan: str, model: str, options: ReportOptions) -> bool:
    """Report on a scan; returns whether it passed the quality gate.

    Raises
    ------
    ConfigError
        If an option is out of range.
    VolumeError, PreparationError
        If the scan cannot be read or holds no brain.
    """
    _check(options)
    folder, version = resolve_model(model)
    bundle = load_bundle(folder)
    if options.series is not None:
        config = with_changes(bundle.config, {"preprocessing.series": options.series})
        bundle = replace(bundle, config=config)
    identity = identify_model(bundle, model if version else folder.resolve().name, version)
    asked = ExamineOptions(
        "scan", options.age_years, options.sex, options.level, options.map_method
    )
    findings = examine_scan(bundle, identity, scan, asked)
    return _write(findings, options)


def report_prediction(predictions: Path, scan_id: str, model: str, options: ReportOptions) -> bool:
    """Report on a row that `predict` wrote, without the scan: no pictures of it, no volumes.

    Raises
    ------
    CohortError
        If the table has no such scan.
    """
    _check(options)
    folder, version = resolve_model(model)
    bundle = load_bundle(folder)
    table = read_predictions(predictions)
    rows = table[table["scan_id"] == scan_id]
    if rows.empty:
        problem = f"has no scan {scan_id!r}."
        raise CohortError(str(predictions), problem, "Give one of its scan_id as --scan-id.")
    verdict, reason = _ledger_entry(ledger_path(predictions), scan_id)
    identity = identify_model(bundle, model if version else folder.resolve().name, version)
    row = {str(name): value for name, value in rows.iloc[0].items()}
    findings = predicted_findings(row, verdict, reason, identity, options.level)
    if options.age_years is not None:
        findings = replace(findings, age_years=options.age_years)
    return _write(replace(findings, sex=options.sex or findings.sex), options)


def _write(findings: Findings, options: ReportOptions) -> bool:
    page = build_report(findings, person_name=options.person_name)
    paths = write_report(page, options.output)
    for text in page.warnings:
        warn(text)
    age = f"predicted age {page.headline}, {page.interval}; " if page.headline else ""
    say(f"{page.verdict_words}; {age}written to {', '.join(str(path) for path in paths)}")
    return findings.verdict != "failed"


def _ledger_entry(path: Path, scan_id: str) -> tuple[Verdict, str]:
    """Verdict and reason of a scan; a prediction without a ledger is not called ok."""
    try:
        ledger = pd.read_csv(path, dtype=str, keep_default_na=False)
        entry = ledger[ledger["scan_id"] == scan_id].iloc[0]
        verdict, reason = entry["verdict"], str(entry["reason"])
    except (OSError, ValueError, KeyError, IndexError):
        return "flagged", f"no ledger entry for this scan in {path.name}: its checks are not known"
    verdicts: dict[str, Verdict] = {"ok": "ok", "failed": "failed"}
    return verdicts.get(verdict, "flagged"), reason


def _check(options: ReportOptions) -> None:
    check_level(options.level)
    age = options.age_years
    if age is not None and not 0.0 <= age <= _OLDEST_YEARS:
        raise ConfigError("--age", f"expected 0 to {_OLDEST_YEARS:g} years, got {age:g}.")
    if options.map_method and options.map_method not in MAP_METHODS:
        known = ", ".join(MAP_METHODS)
        raise ConfigError("--map", f"unknown method {options.map_method!r}.", f"Known: {known}.")
