"""`brainage evaluate`: how good predictions are, or a model on a cohort with known ages."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from brainage.cohorts.columns import OLDEST_YEARS
from brainage.cohorts.filters import select_rows
from brainage.cohorts.splits import hash_ids
from brainage.errors import CohortError, ConfigError
from brainage.evaluation.age_bias import (
    CORRECTIONS,
    Correction,
    bias_report,
    correct_out_of_fold,
    subject_folds,
)
from brainage.evaluation.conformal import DEFAULT_LEVEL, INTERVAL_COLUMNS
from brainage.evaluation.metrics import age_metrics, as_floats, constant_predictor
from brainage.evaluation.new_site import calibration_gain
from brainage.evaluation.out_of_fold import records
from brainage.files import hold_folder
from brainage.model.bundle import Bundle
from brainage.plotting.science import plot_coverage
from brainage.preprocessing.ledger import write_ledger
from brainage.types import BoolArray, Json
from brainage.workflows.cohorts import CohortOptions, read_options
from brainage.workflows.console import say, warn
from brainage.workflows.models import load_model
from brainage.workflows.predict import predict_table
from brainage.workflows.results import (
    coverage_of,
    describe_mae,
    plot_predictions,
    write_json,
    write_table,
)


@dataclass(frozen=True)
class BiasCorrection:
    """How the corrected gap is made, and a filter for the controls it is fitted on."""

    method: Correction
    controls: str | None = None


NEEDED = ("scan_id", "age_years", "predicted_age_years")
RANGES = {"age_years": (0.0, OLDEST_YEARS), "predicted_age_years": (-1000.0, 1000.0)}
NUMBERS = ("age_years", "predicted_age_years", "spread_years", "fold", *INTERVAL_COLUMNS)


def evaluate(
    output: Path,
    *,
    predictions: Path | None = None,
    model: str | Path | None = None,
    cohort_options: CohortOptions | None = None,
    level: float = DEFAULT_LEVEL,
    correction: BiasCorrection | None = None,
) -> Json:
    """Write metrics.json, predictions.csv, subgroups.csv, coverage.csv and the pictures.

    With a model, scans that it was trained or validated on are left out and counted: an error on
    them says nothing.

    Raises
    ------
    ConfigError
        If neither a prediction table nor a model with a cohort is given.
    CohortError
        If no scan with known age is left.
    """
    with hold_folder(output):
        return _evaluate(output, predictions, model, cohort_options, level, correction)


def _evaluate(
    output: Path,
    predictions: Path | None,
    model: str | Path | None,
    cohort_options: CohortOptions | None,
    level: float,
    correction: BiasCorrection | None,
) -> Json:
    if predictions is not None:
        table, extra = read_predictions(predictions), dict[str, int]()
    elif model is not None and cohort_options is not None:
        table, extra = _predict_unseen(model, cohort_options, output, level)
    else:
        raise ConfigError("evaluate", "give --predictions, or --model with --cohort.")
    known = table[table["age_years"].notna() & table["predicted_age_years"].notna()]
    if known.empty:
        raise CohortError("evaluate", "no scan with a known and a predicted age is left.")
    if len(known) < len(table):
        warn(f"{len(table) - len(known)} scans without a known age are not evaluated.")
    metrics: Json = dict(
        age_metrics(
            known["age_years"], known["predicted_age_years"], subject_ids=list(known["subject_id"])
        )
    )
    # Without the training ages the constant is that of the evaluated scans: the hardest constant.
    constant = constant_predictor(known["age_years"], len(known))
    error = float(abs(constant - known["age_years"]).mean())
    metrics["baselines"] = {"constant": {"mae_years": error}}
    metrics |= extra
    gain = calibration_gain(
        known["age_years"], known["predicted_age_years"], subject_ids=list(known["subject_id"])
    )
    if gain is not None:
        metrics["after_calibration"] = gain
    coverage = coverage_of(known)
    if len(coverage):
        write_table(coverage, output / "coverage.csv")
        plot_coverage(coverage, level, output / "coverage.png")
        metrics["intervals"] = records(coverage)[0]
    if correction is not None:
        known, metrics["bias_correction"] = _correct(known, correction)
    write_table(known, output / "predictions.csv")
    write_json(metrics, output / "metrics.json")
    plot_predictions(known, output, seed=0, synthetic=False)
    say(f"{describe_mae(metrics)}, constant predictor {error:.2f}; written to {output}")
    if gain is not None:
        say(
            f"with {gain['controls']} of these people as controls (`brainage calibrate`) the "
            f"others' MAE is {gain['mae_years']:.2f} (95 % of {gain['draws']} draws: "
            f"{gain['mae_range_low']:.2f} to {gain['mae_range_high']:.2f})"
        )
    return metrics


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
    # Folds of the training, or people dealt anew: either way nobody corrects themselves.
    folds = table["fold"] if "fold" in table else subject_folds(list(table["subject_id"]))
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
    try:
        table = pd.read_csv(path, dtype={"scan_id": str, "subject_id": str})
    except (OSError, ValueError) as error:
        raise CohortError(str(path), "is not a readable CSV table.") from error
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise CohortError(str(path), f"lacks columns {', '.join(missing)}.")
    if table["scan_id"].isna().any():
        raise CohortError(str(path), "column scan_id has blank cells.", "Name every scan.")
    for name in NUMBERS:
        if name not in table:
            continue
        numbers = as_floats(table[name])
        if (~np.isfinite(numbers) & table[name].notna()).any():
            raise CohortError(str(path), f"column {name} holds what is not a number.")
        _check_range(numbers, name, path)
        table[name] = numbers
    known = table["subject_id"] if "subject_id" in table else table["scan_id"]
    table["subject_id"] = known.fillna(table["scan_id"])
    for name in ("sex", "site"):
        table[name] = table[name].fillna("") if name in table else ""
    table["brain_age_gap_years"] = table["predicted_age_years"] - table["age_years"]
    return table


def _check_range(numbers: pd.Series, name: str, path: Path) -> None:
    """Refuse ages that nobody has, and predictions that are no ages."""
    low, high = RANGES.get(name, (-np.inf, np.inf))
    wrong = numbers[(numbers < low) | (numbers > high)]
    if len(wrong):
        problem = f"column {name} holds {wrong.iloc[0]:g}, expected {low:g} to {high:g} years."
        raise CohortError(str(path), problem, "Mend the table.")


def unseen_rows(bundle: Bundle, table: pd.DataFrame) -> BoolArray:
    """Scans that the model was neither trained nor validated on; says how many were."""
    hashes = bundle.facts.get("split_id_hashes", {})
    seen = {*hashes.get("train", []), *hashes.get("validation", [])}
    unseen = np.array([identity not in seen for identity in hash_ids(table["scan_id"])], bool)
    if not unseen.all():
        count = int((~unseen).sum())
        warn(f"{count} of {len(table)} scans were used in training and are left out.")
    return unseen


def _predict_unseen(
    model: str | Path, options: CohortOptions, output: Path, level: float
) -> tuple[pd.DataFrame, dict[str, int]]:
    bundle = load_model(model)
    reading = read_options(options)
    table = reading.cohort.table
    unseen = unseen_rows(bundle, table)
    n_seen = len(table) - int(unseen.sum())
    if not unseen.any():
        raise CohortError(options.source, "every scan was used in training of this model.")
    result = predict_table(bundle, table[unseen], options.cache_dir, level)
    write_ledger([*reading.rejected, *result.entries], output / "ledger.csv")
    for entry in result.failed:
        warn(f"{entry.scan_id}: {entry.reason}")
    return result.table.drop(columns=["path"]), {"n_seen_in_training": n_seen}
