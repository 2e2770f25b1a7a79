"""Write a one-page report on a scan as HTML, PDF and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from brainage.cohorts.sample import SAMPLE_AGE_YEARS, SAMPLE_WORDS, is_sample, place_sample
from brainage.errors import CohortError, ConfigError, StoreError
from brainage.evaluation.bounds import INTERVAL_COLUMNS
from brainage.files import parse_json
from brainage.inference.model import Model, check_level
from brainage.inference.predict import PREDICTED_BY, mark_model
from brainage.plotting.planes import ORIENTATIONS, RADIOLOGICAL, Orientation
from brainage.preprocessing.ledger import read_ledger
from brainage.report import (
    ExamineOptions,
    Findings,
    Typed,
    build_report,
    examine_scan,
    identify_model,
    predicted_findings,
)
from brainage.report import write_report as write_pages
from brainage.report.dicom_files import check_dicom_extra, write_dicom
from brainage.report.earlier import add_earlier, read_earlier
from brainage.scans.open import read_source_headers
from brainage.types import DEFAULT_MAP, MAP_METHODS, Verdict
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.models import load_model
from brainage.workflows.predict import ledger_path

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_OLDEST_YEARS = 120.0


@dataclass(frozen=True)
class ReportOptions:
    """Say what is told about the person and the page.

    Attributes
    ----------
    age_years : float, optional
        Age at scan, for the gap; no prediction uses it.
    sex : str
        Printed as typed; no prediction uses it.
    person_name : str
        Printed on this report; without it the report names nobody.
    study_id, scan_date : str
        Printed on this report; the study id is part of its file names.
    level : float
        Share of ages that the interval shall hold.
    map_method : str
        Map of what makes this brain look older or younger: ``integrated_gradients``,
        ``occlusion`` or ``smoothgrad``; empty: none.
    series : str, optional
        Chooses among the series of a DICOM scan, by number or text of the description.
    orientation : {"radiological", "neurological"}
        Whether the patient's left is on the right or the left of all pictures.
    dicom_output : pathlib.Path, optional
        Folder for the results as DICOM: measurements, report and picture in the study of the scan.
    earlier : sequence of path
        JSON files of reports on earlier scans of this person, by the same model.
    """

    age_years: float | None = None
    sex: str = ""
    person_name: str = ""
    study_id: str = ""
    scan_date: str = ""
    level: float = 0.9
    map_method: str = DEFAULT_MAP
    series: str | None = None
    orientation: Orientation = RADIOLOGICAL
    dicom_output: Path | None = None
    earlier: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        check_level(self.level)
        age = self.age_years
        if age is not None and not 0.0 <= age <= _OLDEST_YEARS:
            problem = f"expected 0 to {_OLDEST_YEARS:g} years, got {age:g}."
            raise ConfigError("--age", problem)
        if self.map_method and self.map_method not in MAP_METHODS:
            problem = f"unknown method {self.map_method!r}."
            raise ConfigError("--map", problem, f"Known: {', '.join(MAP_METHODS)}.")
        if self.orientation not in ORIENTATIONS:
            problem = f"unknown convention {self.orientation!r}."
            raise ConfigError("--orientation", problem, f"Known: {', '.join(ORIENTATIONS)}.")


def write_report(
    scan: str | Path,
    output: str | Path | None = None,
    model: str | Path | Model | None = None,
    **options: Any,
) -> Findings:
    """Write a one-page report on a scan: HTML, PDF and JSON.

    Parameters
    ----------
    scan : path
        T1 scan: NIfTI or MGZ file, DICOM folder or zip; ``sample``: the built-in one.
    output : path, optional
        Without suffix; ``.html``, ``.pdf`` and ``.json`` are added. Absent: a name from the study
        id, else from the scan's hash, and today's date, in the working folder.
    model : path or Model, optional
        As `brainage.load_model` takes it.
    **options
        Attributes of `ReportOptions`: `age_years`, `sex`, `person_name`, `study_id`, `scan_date`,
        `level`, `map_method`, `series`, `orientation`, `dicom_output`, `earlier`.

    Returns
    -------
    Findings
        What the report says: `verdict`, `reasons`, `predicted_age_years`, `interval_years`, … A
        scan that fails the quality gate gets a report that says so, and no age.

    Raises
    ------
    ConfigError
        If an option is out of range.
    VolumeError, PreparationError
        If the scan cannot be read or holds no brain.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> cohort = brainage.read_cohort(write_phantom_cohort(root, subjects=1, seed=0)).cohort
    >>> found = brainage.write_report(cohort.table["path"][0], root / "report", age_years=50)
    >>> found.verdict
    'ok'
    >>> sorted(path.name for path in root.glob("report.*"))
    ['report.html', 'report.json', 'report.pdf']
    >>> folder.cleanup()
    """
    chosen = ReportOptions(**options)
    if output is not None:
        _refuse_other_json(Path(f"{output}.json"))
    loaded = load_model(model).with_series(chosen.series)
    sample = is_sample(scan)
    if sample:
        scan, chosen = place_sample(), _age_sample(chosen)
    sources = _read_sources(scan, chosen)
    earlier = read_earlier(chosen.earlier, identify_model(loaded))
    asked = ExamineOptions("scan", chosen.age_years, chosen.sex, chosen.level, chosen.map_method)
    found = add_earlier(examine_scan(loaded, scan, asked), earlier, chosen.scan_date)
    if sample:
        found = replace(found, reasons=(SAMPLE_WORDS, *found.reasons))
    _write(found, output, chosen)
    if chosen.dicom_output is not None:
        written = write_dicom(found, sources, chosen.dicom_output, chosen.orientation)
        say(f"DICOM: {', '.join(map(str, written))}")
    return found


def _age_sample(options: ReportOptions) -> ReportOptions:
    """Give the built-in sample its age, unless another was typed."""
    if options.age_years is not None:
        return options
    return replace(options, age_years=SAMPLE_AGE_YEARS)


def _read_sources(scan: str | Path, options: ReportOptions) -> "list[Dataset]":
    """Headers that DICOM results need, before anything takes time; none if they are not asked."""
    if options.dicom_output is None:
        return []
    check_dicom_extra()
    return read_source_headers(scan, "scan", series=options.series)


def report_prediction(
    predictions: Path,
    scan_id: str,
    output: str | Path | None = None,
    model: str | Path | Model | None = None,
    **options: Any,
) -> Findings:
    """Report on a row that `predict` wrote, without the scan: no pictures of it, no volumes.

    Raises
    ------
    CohortError
        If the table has no such scan, or an interval that this model does not give at this level.
    """
    chosen = ReportOptions(**options)
    if output is not None:
        _refuse_other_json(Path(f"{output}.json"))
    loaded = load_model(model)
    table = read_predictions(predictions)
    rows = table[table["scan_id"] == scan_id]
    if rows.empty:
        problem = f"has no scan {scan_id!r}."
        raise CohortError(str(predictions), problem, "Give one of its scan_id as --scan-id.")
    identity = identify_model(loaded)
    row = {str(name): value for name, value in rows.iloc[0].items()}
    _check_model(row, loaded, str(predictions))
    verdict, reason = _judge(row, ledger_path(predictions))
    _check_intervals(row, loaded, chosen.level, str(predictions))
    findings = predicted_findings(row, verdict, reason, identity, chosen.level)
    if chosen.age_years is not None:
        findings = replace(findings, age_years=chosen.age_years)
    earlier = read_earlier(chosen.earlier, identity)
    findings = replace(findings, sex=chosen.sex or findings.sex)
    findings = add_earlier(findings, earlier, chosen.scan_date)
    return _write(findings, output, chosen)


def _check_model(row: Mapping[str, Any], model: Model, where: str) -> None:
    """Refuse a row that says that another model wrote it."""
    told, mark = row.get(PREDICTED_BY), mark_model(model.bundle)
    if not (pd.isna(told) or told == mark):
        problem = f"was predicted by another model ({told}) than this ({mark})."
        raise CohortError(where, problem, "Give the --model that `predict` had.")


def _check_intervals(row: Mapping[str, Any], model: Model, level: float, where: str) -> None:
    """Refuse a row whose interval tells that another model wrote it, or one for another level."""
    intervals = model.bundle.intervals
    told = [row.get(name) for name in INTERVAL_COLUMNS]
    numbers = [row["predicted_age_years"], row.get("spread_years", np.nan)]
    if any(value is None or pd.isna(value) for value in (*told, *numbers)):
        return
    predicted, spread = (np.array([value], dtype=np.float64) for value in numbers)
    found = None if intervals is None else intervals.predict(predicted, spread, level)[0]
    if found is None or not np.allclose(found, np.array(told, dtype=np.float64), atol=0.01):
        problem = f"holds another interval than this model gives at level {level:g}."
        raise CohortError(where, problem, "Give the --model and --level that `predict` had.")


def _write(findings: Findings, output: str | Path | None, options: ReportOptions) -> Findings:
    typed = Typed(options.person_name, options.study_id, options.scan_date)
    page = build_report(findings, typed, orientation=options.orientation)
    paths = write_pages(page, Path(page.file_name if output is None else output))
    for text in page.warnings:
        warn(text)
    age = f"Predicted age {page.headline}. {page.interval} " if page.headline else ""
    say(f"{page.verdict_words}. {age}Written to {', '.join(str(path) for path in paths)}")
    return findings


def _refuse_other_json(path: Path) -> None:
    """Refuse to write over a JSON file that is no report, such as a scan's BIDS sidecar."""
    try:
        found = parse_json(path.read_bytes())
        is_report = "report_version" in found
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError):
        is_report = False
    if not is_report:
        problem = f"{path} is there and is no report: it would be lost."
        raise ConfigError("--output", problem, "Choose another name.")


def _judge(row: Mapping[str, Any], ledger: Path) -> tuple[Verdict, str]:
    """Verdict and reasons of a row; of a table without them those of the ledger beside it.

    What lies beside a table may be another's ledger, of scans of the same names.
    """
    reason = row.get("reasons")
    for verdict in get_args(Verdict):
        if row.get("verdict") == verdict:
            return verdict, "" if pd.isna(reason) else str(reason)
    return _ledger_entry(ledger, str(row["scan_id"]))


def _ledger_entry(path: Path, scan_id: str) -> tuple[Verdict, str]:
    """Verdict and reason of a scan; a prediction without a ledger is not called ok."""
    try:
        entry = next(entry for entry in read_ledger(path) if entry.scan_id == scan_id)
    except (StoreError, StopIteration):
        return "flagged", f"no ledger entry for this scan in {path.name}: its checks are not known"
    return entry.gate, entry.reason
