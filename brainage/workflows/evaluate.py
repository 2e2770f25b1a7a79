"""Measure how good predictions are, or a model on a cohort with known ages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from pandas.api.types import is_string_dtype

from brainage.cohorts.cells import (
    ADULT_YEARS,
    OLDEST_YEARS,
    note_spellings,
    parse_number,
    parse_sexes,
    read_name,
)
from brainage.cohorts.columns import infer_types, is_usual
from brainage.cohorts.filters import select_rows, unknown_texts
from brainage.cohorts.table_files import read_table
from brainage.errors import CohortError, ConfigError
from brainage.evaluation.age_bias import (
    CORRECTIONS,
    Correction,
    bias_report,
    correct_out_of_fold,
    subject_folds,
)
from brainage.evaluation.bounds import DEFAULT_LEVEL, INTERVAL_COLUMNS
from brainage.evaluation.measures import as_floats, refuse_codes, refuse_copies
from brainage.evaluation.metrics import describe_unbeaten
from brainage.evaluation.new_site import calibration_gain
from brainage.evaluation.out_of_fold import baseline_column, records
from brainage.files import hold_folder, remove_old
from brainage.inference.model import Model
from brainage.inference.predict import mark_table
from brainage.plotting.science import plot_coverage
from brainage.preprocessing.ledger import write_ledger
from brainage.types import BASELINES, Json
from brainage.workflows.cohorts import CohortInput, CohortOptions, as_options, read_options
from brainage.workflows.console import say, scan_progress, warn
from brainage.workflows.inputs import check_not_read
from brainage.workflows.models import load_model
from brainage.workflows.results import (
    coverage_of,
    describe_mae,
    plot_predictions,
    read_level,
    score,
    write_json,
    write_table,
)
from brainage.workflows.seen import CALIBRATION, LEARNED, unseen_rows


@dataclass(frozen=True)
class BiasCorrection:
    """Say how the corrected gap is made, and on which scans it is fitted (a filter)."""

    method: Correction
    controls: str | None = None


_COVERAGE = ("coverage.csv", "coverage.png")
_BIDS_SCAN = re.compile(r"(sub-[A-Za-z0-9]+)_.*")
NEEDED = ("scan_id", "age_years", "predicted_age_years")
PREDICTION_CODES = (0, -1, -9, -99)
RANGES = {"age_years": (0.0, OLDEST_YEARS), "predicted_age_years": (-100.0, 300.0)}
NUMBERS = (
    *("age_years", "predicted_age_years", "spread_years", "fold", "interval_level"),
    *INTERVAL_COLUMNS,
    *(baseline_column(name) for name in BASELINES),
)


def evaluate(
    source: pd.DataFrame | str | Path | Model,
    output: str | Path,
    *,
    cohort: CohortInput | None = None,
    level: float = DEFAULT_LEVEL,
    correction: BiasCorrection | None = None,
    cache: Path | None = None,
) -> Json:
    """Measure how good predictions are, or a model on a cohort with known ages.

    Writes ``metrics.json``, ``predictions.csv``, ``subgroups.csv``, ``coverage.csv`` and pictures.
    Of a model, scans of people that it was trained, validated or calibrated on are left out and
    counted: an error on them says nothing.

    Parameters
    ----------
    source : pandas.DataFrame, path or Model
        Without `cohort` a table of predictions, `scan_id`, `age_years`, `predicted_age_years` and
        more where known; with `cohort` a model, as `brainage.load_model` takes it.
    output : path
        Folder to write.
    cohort : path, Cohort or CohortReading, optional
        Scans with known ages, for a model.
    level : float
        Share of ages that the intervals shall hold.
    correction : BiasCorrection, optional
        Adds an age-bias-corrected gap, fitted out of fold; the metrics are always raw.
    cache : pathlib.Path, optional
        Folder of prepared scans.

    Returns
    -------
    dict
        `n`, `mae_years` with its 95 % interval, `r`, `r2`, `bias_years`, `gap_slope`, `baselines`
        (the constant is the median of the *training* ages, where the model or the table's column
        `constant_predicted_age_years` tells it), `intervals`, and `n_seen_in_training`.

    Raises
    ------
    CohortError
        If a column is missing or no scan with known age is left.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> import brainage
    >>> table = pd.DataFrame({
    ...     "scan_id": ["a", "b", "c"],
    ...     "age_years": [30.0, 50.0, 70.0],
    ...     "predicted_age_years": [34.0, 49.0, 66.0],
    ... })
    >>> folder = tempfile.TemporaryDirectory()
    >>> metrics = brainage.evaluate(table, folder.name)
    >>> metrics["mae_years"]
    3.0
    >>> round(metrics["gap_slope"], 2)
    -0.2
    >>> folder.cleanup()
    """
    output = Path(output)
    with hold_folder(output):
        if cohort is not None:
            if isinstance(source, pd.DataFrame):
                raise ConfigError("evaluate", "a table of predictions needs no cohort.")
            table, extra = _predict_unseen(
                load_model(source), as_options(cohort, cache), output, level
            )
        elif isinstance(source, Model):
            raise ConfigError("evaluate", "a model needs a cohort.", "Give one as --cohort.")
        elif isinstance(source, pd.DataFrame):
            table, extra = check_predictions(source, "predictions"), dict[str, int]()
        else:
            # Scans without an age would be lost.
            check_not_read(output / "predictions.csv", [source])
            table, extra = read_predictions(Path(source)), dict[str, int]()
        return _evaluate(table, extra, output, level, correction)


def _evaluate(
    table: pd.DataFrame,
    extra: Mapping[str, int],
    output: Path,
    level: float,
    correction: BiasCorrection | None,
) -> Json:
    known = table[table["age_years"].notna() & table["predicted_age_years"].notna()]
    if known.empty:
        raise CohortError("evaluate", "no scan with a known and a predicted age is left.")
    for column, words in (("age_years", "known age"), ("predicted_age_years", "prediction")):
        lacking = table.loc[table[column].isna(), "scan_id"]
        if len(lacking):
            first = f"the first is {lacking.iloc[0]!r}"
            warn(f"{len(lacking)} scans without a {words} are not evaluated; {first}.")
    metrics = score(known, seed=0) | dict(extra)
    unbeaten = describe_unbeaten(metrics)
    if unbeaten:
        warn(f"{unbeaten}.")
    gain = calibration_gain(
        known["age_years"], known["predicted_age_years"], subject_ids=list(known["subject_id"])
    )
    if gain is not None:
        metrics["after_calibration"] = gain
    if correction is not None:
        known, metrics["bias_correction"] = _correct(known, correction)
    level = read_level(known, level)
    for name in _COVERAGE:
        remove_old(output / name)
    coverage = coverage_of(known)
    if len(coverage):
        write_table(coverage, output / _COVERAGE[0])
        plot_coverage(coverage, level, output / _COVERAGE[1])
        metrics["intervals"] = records(coverage)[0]
    write_table(known, output / "predictions.csv")
    write_json(metrics, output / "metrics.json")
    plot_predictions(known, output, seed=0, synthetic=False)
    listed = "".join(
        f"; {name} {values['mae_years']:.2f}" for name, values in metrics["baselines"].items()
    )
    say(f"{describe_mae(metrics)}{listed}; written to {output}")
    if gain is not None:
        say(
            f"with {gain['controls']} of these people as controls (`brainage calibrate`) the "
            f"others' MAE is {gain['mae_years']:.2f} (95 % of {gain['draws']} draws: "
            f"{gain['mae_range_low']:.2f} to {gain['mae_range_high']:.2f}), a gain of "
            f"{gain['gain_years']:+.2f}"
        )
    return metrics


def choose_source(
    predictions: Path | None, model: str | None, cohort: CohortOptions | None
) -> str | Path:
    """Return what a command line evaluates.

    Raises
    ------
    ConfigError
        If neither a prediction table nor a model with a cohort is given.
    """
    if predictions is not None:
        return predictions
    if model is None or cohort is None:
        raise ConfigError("evaluate", "give --predictions, or --model with --cohort.")
    return model


def parse_correction(method: str | None, controls: str | None) -> BiasCorrection | None:
    """Check what the command line says of the correction.

    Raises
    ------
    ConfigError
        If the method is unknown, or there are controls but no method.
    """
    if method is None:
        if controls is not None:
            raise ConfigError("--controls", "has no meaning without --correct-bias.")
        return None
    for known in get_args(Correction):
        if known == method:
            return BiasCorrection(known, controls)
    listed = ", ".join(CORRECTIONS)
    raise ConfigError("--correct-bias", f"unknown method {method!r}.", f"Known: {listed}.")


def _correct(table: pd.DataFrame, correction: BiasCorrection) -> tuple[pd.DataFrame, Json]:
    controls = np.ones(len(table), dtype=bool)
    if correction.controls is not None:
        controls = select_rows(table, correction.controls)
        if told := unknown_texts(table, correction.controls):
            warn(told)
    # Folds of the training, or people dealt anew: either way nobody corrects themselves.
    # Rows without a fold, such as patients below the controls, are one of their own.
    own = table["fold"].fillna(-1) if "fold" in table else None
    folds = subject_folds(list(table["subject_id"])) if own is None else own
    corrected = correct_out_of_fold(table, correction.method, controls, np.asarray(folds, float))
    report = bias_report(corrected, correction.method, controls)
    if report["warning"]:
        warn(report["warning"])
    return corrected, report


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a prediction table; missing columns for subgroups are filled with blanks.

    Raises
    ------
    CohortError
        If the file is no table or lacks a needed column.
    """
    raw = read_table(path)
    for remark in raw.remarks:
        warn(remark)
    table = infer_types(raw.frame, raw.decimal_comma)
    for name in raw.frame:  # an id or a site such as 1.0 or 007 stays as it was written
        if name in ("scan_id", "site", "sex") or is_usual(str(name), "subject_id"):
            written = raw.frame[name].map(read_name)
            table[name] = written.where(table[name].notna())
    table = check_predictions(table, str(path))
    if told := note_spellings(map(str, table["subject_id"]), "person"):
        warn(told)
    return table


def check_predictions(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Check a table of predictions and return it with every standard column.

    Raises
    ------
    CohortError
        If a column is missing or holds what is no age or a code of a missing one, or a scan comes
        twice.
    """
    table = table.copy()
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise CohortError(where, f"lacks columns {', '.join(missing)}.")
    if table["scan_id"].isna().any():
        raise CohortError(where, "column scan_id has blank cells.", "Name every scan.")
    twice = table.loc[table["scan_id"].duplicated(), "scan_id"]
    if len(twice):
        problem = f"{len(twice)} scan ids come more than once, the first is {str(twice.iloc[0])!r}."
        raise CohortError(where, problem, "A scan counts once: keep one row of each.")
    for name in NUMBERS:
        if name not in table:
            continue
        numbers = _as_numbers(table[name], where)
        if (~np.isfinite(numbers) & table[name].notna()).any():
            raise CohortError(where, f"column {name} holds what is not a number.")
        _check_range(numbers, name, where)
        table[name] = numbers
    if set(INTERVAL_COLUMNS) <= set(table):
        low, high = (table[name] for name in INTERVAL_COLUMNS)
        if (low > high).any():
            scan = table.loc[low > high, "scan_id"].iloc[0]
            problem = f"the interval of {scan!r} ends below its start."
            raise CohortError(where, problem, f"Give {' and '.join(INTERVAL_COLUMNS)}.")
    table["subject_id"] = _find_people(table, where).fillna(table["scan_id"])
    refuse_copies(table, where)
    for name in ("sex", "site"):
        table[name] = table[name].fillna("") if name in table else ""
    sexes = table["sex"].astype(str)  # as F and M where it can be read: tables are put together
    read = pd.Series(parse_sexes(sexes.tolist(), "sex")[0], index=table.index)
    table["sex"] = read.where(read != "", sexes)
    table["brain_age_gap_years"] = table["predicted_age_years"] - table["age_years"]
    return table


def _find_people(table: pd.DataFrame, where: str) -> pd.Series:
    """Return whose scan each row is: by a column of a usual name, else by BIDS names of scans.

    Raises
    ------
    CohortError
        If two columns could tell.
    """
    found = [name for name in table if is_usual(str(name), "subject_id")]
    if "subject_id" not in table and len(found) > 1:
        problem = f"columns {' and '.join(map(repr, found))} could both be subject_id."
        raise CohortError(where, problem, "Rename one to subject_id.")
    if found:
        return table["subject_id" if "subject_id" in table else found[0]]
    return table["scan_id"].astype(str).str.replace(_BIDS_SCAN, r"\1", regex=True)


def _as_numbers(column: pd.Series, where: str) -> pd.Series:
    """Return a column as floats; text may have decimal commas."""
    if not is_string_dtype(column):
        return as_floats(column)
    try:
        return column.map(lambda cell: parse_number(cell) if isinstance(cell, str) else cell)
    except ValueError as error:
        problem = f"column {column.name} holds what is not a number ({error})."
        raise CohortError(where, problem, "Mend the table.") from error


def _check_range(numbers: pd.Series, name: str, where: str) -> None:
    """Refuse ages that nobody has, and predictions that are no ages."""
    low, high = RANGES.get(name, (-np.inf, np.inf))
    wrong = numbers[(numbers < low) | (numbers > high)]
    if len(wrong):
        problem = f"column {name} holds {wrong.iloc[0]:g}, expected {low:g} to {high:g} years."
        raise CohortError(where, problem, "Mend the table.")
    if name in RANGES:
        refuse_codes(numbers, where, PREDICTION_CODES, ADULT_YEARS)


def _predict_unseen(
    model: Model, options: CohortOptions, output: Path, level: float
) -> tuple[pd.DataFrame, dict[str, int]]:
    reading = read_options(options)
    table = reading.cohort.table
    unseen = unseen_rows(model.bundle, table, (*LEARNED, CALIBRATION))
    n_seen = len(table) - int(unseen.sum())
    if not unseen.any():
        raise CohortError(options.source, "every scan is of people that the model was fitted to.")
    with scan_progress("predicting") as progress:
        result = model.predict_table(
            table[unseen], level=level, cache=options.cache_dir, on_progress=progress
        )
    write_ledger([*reading.rejected, *result.entries], output / "ledger.csv")
    for entry in result.failed:
        warn(f"{entry.scan_id}: {entry.reason}")
    predicted = mark_table(result.table.drop(columns=["path"]), model.bundle, level)
    median = model.bundle.train_median_age_years
    if median is not None:
        predicted[baseline_column("constant")] = median
    return predicted, {"n_seen_in_training": n_seen}
