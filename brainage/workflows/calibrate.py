"""Fit a model's offset and intervals to a site's own healthy controls."""

from pathlib import Path

import numpy as np

from brainage.errors import CohortError, TrainingError
from brainage.evaluation.conformal import ConformalInterval
from brainage.model.bundle import copy_bundle
from brainage.preprocessing.ledger import write_ledger
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.console import say
from brainage.workflows.evaluate import unseen_rows
from brainage.workflows.models import load_model
from brainage.workflows.tables import first_scans

MIN_CONTROLS = 20


def calibrate(model: Path, cohort_options: CohortOptions, output: Path) -> ConformalInterval:
    """Write the model anew with the controls' mean gap as offset and their scores as intervals.

    Raises
    ------
    CohortError
        If fewer than 20 people are left that the model was not trained on.
    TrainingError
        If the output already holds a model.
    """
    if (output / "manifest.json").exists():
        raise TrainingError(str(output), "already holds a model.", "Choose another --output.")
    bundle = load_model(model).bundle
    prepared, entries = prepare_options(cohort_options, bundle.config.preprocessing)
    table = prepared.cohort.table.assign(row=np.arange(len(prepared.cohort)))
    people = first_scans(table[unseen_rows(bundle, table)])
    if len(people) < MIN_CONTROLS:
        problem = f"{len(people)} controls that the model was not trained on."
        raise CohortError(cohort_options.source, problem, f"At least {MIN_CONTROLS} are needed.")
    predicted = bundle.predict(prepared.arrays[people["row"].to_numpy()])
    before = bundle.calibration
    earlier = before.offset_years_ if before else 0.0
    fitted = ConformalInterval(bundle.config.inference.interval).fit_controls(
        # What the weights say: an earlier site's offset must not add up.
        predicted.predicted_age_years + earlier,
        people["age_years"],
        predicted.spread_years,
        f"{len(people)} own controls",
    )
    copy_bundle(bundle, output, {"calibration": fitted.to_json(), "coverage": []})
    write_ledger(entries, output / "ledger.csv")
    say(
        f"{len(people)} controls: {-fitted.offset_years_:+.2f} years are added to predictions; "
        f"written to {output}"
    )
    return fitted
