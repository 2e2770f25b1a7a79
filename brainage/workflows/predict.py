"""`brainage predict`: scans and a model in, a table of ages and a ledger out."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from brainage.config import with_changes
from brainage.errors import ConfigError
from brainage.evaluation.conformal import DEFAULT_LEVEL
from brainage.evaluation.ood import FLAG_PERCENTILE
from brainage.files import remove_old, remove_unfinished
from brainage.inference.predict import (
    ADDED_COLUMNS,
    PREDICTION_COLUMNS,
    Predictions,
    predict_scans,
    scans_table,
)
from brainage.model.bundle import Bundle
from brainage.prepared.arrays import HERE, Preparation
from brainage.preprocessing.ledger import write_ledger
from brainage.types import LedgerEntry
from brainage.workflows.cohorts import CohortOptions, read_options, table_folder
from brainage.workflows.console import say, scan_progress, warn
from brainage.workflows.masks import ScanOptions
from brainage.workflows.models import load_model
from brainage.workflows.results import write_table

PEOPLE_COLUMNS = ("subject_id", "session_id", "sex", "site")


def predict(
    scans: list[str],
    cohort_options: CohortOptions | None,
    model: str | Path,
    output: Path,
    cache: Path,
    level: float = DEFAULT_LEVEL,
    *,
    series: str | None = None,
    scan_options: ScanOptions = ScanOptions(),
) -> int:
    """Predict every scan; returns the number of scans that failed.

    `series` chooses among the series of DICOM scans, by number or text of the description.

    Writes `output` and, beside it, the ledger (``predictions.csv`` → ``ledger.csv``; another
    name → ``NAME.ledger.csv``).

    Raises
    ------
    ConfigError
        If there is neither a scan nor a cohort, or both.
    """
    if bool(scans) == (cohort_options is not None):
        raise ConfigError("SCAN", "give either scans or --cohort.")
    check_level(level)
    bundle = load_model(model)
    if series is not None:
        config = with_changes(bundle.config, {"preprocessing.series": series})
        bundle = replace(bundle, config=config)
    if cohort_options is not None:
        table, entries = _cohort_table(cohort_options)
        how = scan_options.build(table, table_folder(cohort_options.source))
    else:
        table, entries = scans_table(scans)
        how = scan_options.build(table, Path())
    predictions = predict_table(bundle, table, cache, level, how)
    entries = [*entries, *predictions.entries]
    people = [name for name in PEOPLE_COLUMNS if name in predictions.table]
    remove_unfinished(output.parent)
    # Killed in between, a table is better without a ledger than with one of other scans.
    remove_old(ledger_path(output))
    write_table(predictions.table[[*PREDICTION_COLUMNS, *ADDED_COLUMNS, *people]], output)
    write_ledger(entries, ledger_path(output))
    failed = [entry for entry in entries if entry.verdict == "failed"]
    for entry in failed:
        warn(f"{entry.scan_id}: {entry.reason}")
    warn_about(bundle, predictions.table, level)
    say(f"{len(predictions.table)} predicted, {len(failed)} failed; written to {output}")
    return len(failed)


def predict_table(
    bundle: Bundle,
    table: pd.DataFrame,
    cache: Path,
    level: float = DEFAULT_LEVEL,
    how: Preparation = HERE,
) -> Predictions:
    """Predict a table of scans with a progress bar."""
    with scan_progress("predicting") as progress:
        return predict_scans(bundle, table, cache, level=level, how=how, on_progress=progress)


def warn_about(bundle: Bundle, table: pd.DataFrame, level: float) -> None:
    """Say why intervals are empty, and how many scans are unlike the training scans."""
    missing = int(table["interval_low_years"].isna().sum())
    if bundle.calibration is None:
        warn("the model has no calibration: the interval columns are empty.")
    elif missing:
        n = bundle.calibration.n
        warn(f"{missing} intervals are empty: {n} calibration scans are too few for {level:g}.")
    if bundle.ood is None:
        warn("the model does not know its training scans: ood_percentile is empty.")
    unlike = int((table["ood_percentile"] >= FLAG_PERCENTILE).sum())
    if unlike:
        warn(f"{unlike} scans are unlike those that the model was trained on (ood_percentile).")


def check_level(level: float) -> None:
    """Refuse a level that is no share.

    Raises
    ------
    ConfigError
        If it is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError("--level", f"expected a level between 0 and 1, got {level:g}.")


def ledger_path(output: Path) -> Path:
    """Ledger beside a prediction table."""
    if output.name == "predictions.csv":
        return output.with_name("ledger.csv")
    return output.with_name(f"{output.stem}.ledger.csv")


def _cohort_table(options: CohortOptions) -> tuple[pd.DataFrame, list[LedgerEntry]]:
    # A prediction needs no age, and one bad row must not keep the others from theirs.
    options = replace(options, skip_bad=True)
    reading = read_options(options, require_age=False)
    return reading.cohort.table, reading.rejected
