"""Predict the ages of scans and write a table with its ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainage.cohorts.people import add_people, read_people
from brainage.evaluation.bounds import DEFAULT_LEVEL
from brainage.evaluation.left_out import FAR_YEARS, pool_left_out
from brainage.evaluation.ood import FLAG_PERCENTILE
from brainage.files import default_cache, remove_old, remove_unfinished
from brainage.inference.header import split_contradicted
from brainage.inference.model import Model, check_level, with_series
from brainage.inference.predict import (
    ADDED_COLUMNS,
    PREDICTION_COLUMNS,
    mark_table,
    predict_when_loaded,
)
from brainage.preprocessing.ledger import summarise_ledger, write_ledger
from brainage.types import Json
from brainage.workflows.cohorts import ScansInput, read_scans
from brainage.workflows.console import say, scan_progress, tell_entries, warn
from brainage.workflows.inputs import check_not_read
from brainage.workflows.masks import ScanOptions
from brainage.workflows.models import load_aside
from brainage.workflows.results import write_table

if TYPE_CHECKING:
    from brainage.model.bundle import Bundle

PEOPLE_COLUMNS = ("subject_id", "session_id", "sex", "site")


@dataclass(frozen=True)
class PredictOptions:
    """Say how scans are predicted.

    Attributes
    ----------
    level : float
        Share of ages that the intervals shall hold.
    series : str, optional
        Chooses among the series of DICOM scans, by number or text of the description.
    cache : pathlib.Path, optional
        Folder of prepared scans.
    scans : ScanOptions
        Jobs and brain masks.
    ages : pathlib.Path, optional
        Table with the ages of scans that are given by path.
    columns : dict of str to str, optional
        Its columns, where the usual names do not find them.
    """

    level: float = DEFAULT_LEVEL
    series: str | None = None
    cache: Path | None = None
    scans: ScanOptions = field(default_factory=ScanOptions)
    ages: Path | None = None
    columns: dict[str, str] | None = None


def predict(
    scans: ScansInput, model: str | Path | Model | None, output: Path, options: PredictOptions
) -> int:
    """Predict every scan and write a table; returns the number of scans that failed.

    Writes `output` and, beside it, the ledger (``predictions.csv`` → ``ledger.csv``; another
    name → ``NAME.ledger.csv``).
    """
    check_level(options.level)
    level = options.level
    with load_aside(model) as (config, load):
        table, entries, folder = read_scans(scans)
        read = [*table["path"], options.ages, getattr(scans, "source", None)]
        for written in (output, ledger_path(output)):
            check_not_read(written, [source for source in read if source])
        if options.ages is not None:
            table = add_ages(table, options.ages, options.columns)
        how, cache = options.scans.build(table, folder), options.cache or default_cache()
        with scan_progress("predicting") as progress:
            predictions = predict_when_loaded(
                lambda: load().bundle,
                with_series(config, options.series),
                table,
                cache,
                level=level,
                how=how,
                on_progress=progress,
            )
        bundle = load().bundle
    entries = [*entries, *predictions.entries]
    told = (*PEOPLE_COLUMNS, "path") if isinstance(scans, Sequence | Path) else PEOPLE_COLUMNS
    people = [name for name in told if name in predictions.table]
    remove_unfinished(output.parent)
    # Killed in between, a table is better without a ledger than with one of other scans.
    remove_old(ledger_path(output))
    columns = [*PREDICTION_COLUMNS, *ADDED_COLUMNS, *people]
    write_table(mark_table(predictions.table[columns], bundle, level), output)
    write_ledger(entries, ledger_path(output))
    tell_entries(entries)
    warn_about(bundle, predictions.table, level)
    summary = summarise_ledger(entries)
    say(f"{summary}; written to {output}")
    return summary.failed


def add_ages(table: pd.DataFrame, ages: Path, columns: dict[str, str] | None) -> pd.DataFrame:
    """Add ages, sexes and sites of a table to scans; say which scans it lacks."""
    people = read_people(ages, columns)
    known, note = add_people(table, people, str(ages))
    for text in (*people.attrs["notes"], *filter(None, [note])):
        warn(text)
    return known


def warn_about(bundle: "Bundle", table: pd.DataFrame, level: float) -> None:
    """Warn why intervals are empty, and which scans the model knows nothing like."""
    missing = int(table["interval_low_years"].isna().sum())
    if bundle.intervals is None:
        warn("the model has no calibration: the interval columns are empty.")
    elif missing:
        n = bundle.intervals.n_subjects_
        warn(f"{missing} intervals are empty: {n} calibration scans are too few for {level:g}.")
    if bundle.ood is None:
        warn("the model does not know its training scans: ood_percentile is empty.")
    doubted = sum(bool(split_contradicted(told.split("; "))[1]) for told in table["reasons"])
    if doubted:
        warn(f"{doubted} scans were given an age or a sex that their DICOM header contradicts.")
    unlike = int((table["ood_percentile"] >= FLAG_PERCENTILE).sum())
    if unlike:
        warn(f"{unlike} scans are unlike those that the model was trained on (ood_percentile).")
    warn_of_strangers(bundle.facts, table)


def warn_of_strangers(facts: Json, table: pd.DataFrame) -> None:
    """Say how far off ages are at sites that a model does not know, where scans come from such."""
    sites = table["site"] if "site" in table else pd.Series("", index=table.index)
    own = facts.get("own_sites")
    others = int((~sites.isin([*own, ""])).sum()) if own else 0
    if others and own:
        warn(
            f"{others} scans are of other sites than {', '.join(own)}, to which the model was "
            "fitted (`calibrate`, `finetune`): its offset and intervals are not theirs."
        )
    strange = int((~sites.isin(facts.get("cohort", {}).get("sites", []))).sum())
    pooled = pool_left_out(facts)
    if strange and pooled:
        n, mae, far = pooled
        warn(
            f"{strange} scans are of no site that trained this model. On {n} scans of sites left "
            f"out it was off by {mae:.1f} years in the mean, by more than {FAR_YEARS:g} in "
            f"{far:.0%}, and nothing in a scan told which. With 20 healthy people of a site, "
            "`brainage calibrate` says how far off it is there."
        )


def ledger_path(output: Path) -> Path:
    """Ledger beside a prediction table."""
    if output.name == "predictions.csv":
        return output.with_name("ledger.csv")
    return output.with_name(f"{output.stem}.ledger.csv")
