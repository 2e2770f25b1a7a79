"""Studies on brain scans: a run is a cross-validation, and runs are paired scan by scan."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from brainage.cohorts.splits import make_folds
from brainage.config import PreprocessingConfig
from brainage.evaluation.metrics import age_metrics, paired_difference
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort, train_run
from brainage.workflows.benchmark import default_data_root
from brainage.workflows.cohorts import CohortOptions, prepare_options
from pipelines.study.plan import Case
from pipelines.study.records import Outcome, StudyOptions
from pipelines.study.table import DIFFERENCE_COLUMNS, Results

TABLE, HEALTHY = "oasis1/cohort.csv", "CDR != CDR or CDR == 0"
FOLDS = 5


def cross_validate(case: Case, options: StudyOptions) -> Outcome:
    """Out-of-fold errors of healthy OASIS-1 scans; rows of curves hold every scan's error.

    The run's seed is that of training and of the folds, so that seeds differ in both and the
    settings of a study meet the same folds.
    """
    root = options.data_root or default_data_root()
    prepared = _prepare(str(root / TABLE), case.config.preprocessing)
    training, split = TrainOptions(device=options.device), case.config.split
    folds = make_folds(
        prepared.cohort, FOLDS, split.model_copy(update={"seed": case.config.seed + split.seed})
    )
    trained = [train_run(prepared, fold, case.config, training) for fold in folds]
    table = pd.concat([run.predictions for run in trained]).sort_values("scan_id")
    metrics = age_metrics(table["age_years"], table["predicted_age_years"], bootstrap=1)
    rows = [
        {"line": scan_id, "subject": subject, "value": abs(gap)}
        for scan_id, subject, gap in table[
            ["scan_id", "subject_id", "brain_age_gap_years"]
        ].itertuples(index=False)
    ]
    kept = {name: metrics[name] for name in ("mae_years", "r", "bias_years")}
    hidden = np.mean([run.history[-1].block_val_scores[0] for run in trained])
    first = float(hidden) if np.isfinite(hidden) else None
    return Outcome(kept | {"first_block_mae_years": first}, rows)


def paired_with(**base: float | str) -> Callable[[Results], Results]:
    """Add the difference to the runs of the base setting, paired by scan, over people.

    A row meets the base row that has its own values on all axes that `base` does not name. Errors
    of a scan are averaged over seeds first; the interval resamples people (2000 times).
    """

    def refine(results: Results) -> Results:
        keys = [*results.axes, "line", "subject"]
        errors = results.curves.groupby(keys, sort=False, dropna=False)["value"].mean()
        table = errors.reset_index()
        rows = []
        for values in results.table[list(results.axes)].itertuples(index=False):
            axes: dict[str, object] = dict(zip(results.axes, values, strict=True))
            own, other = _where(table, axes), _where(table, axes | base)
            rows.append(_compare(table[own], table[other]))
        added = pd.DataFrame(rows, index=results.table.index)
        return replace(results, table=pd.concat([results.table, added], axis=1))

    return refine


def _compare(own: pd.DataFrame, base: pd.DataFrame) -> dict[str, float | None]:
    joined = own.merge(base, on=["line", "subject"], suffixes=("", "_base"))
    if joined.empty or (joined["value"] == joined["value_base"]).all():
        return dict.fromkeys(DIFFERENCE_COLUMNS, np.nan)
    found = paired_difference(joined["value"], joined["value_base"], list(joined["subject"]))
    return dict(
        zip(DIFFERENCE_COLUMNS, (found["mean"], found["ci_low"], found["ci_high"]), strict=True)
    )


def _where(table: pd.DataFrame, axes: Mapping[str, object]) -> "pd.Series[bool]":
    """Rows with these values; numbers and names are told apart by how they are written."""
    kept = pd.Series(True, index=table.index)
    for name, value in axes.items():
        kept &= table[name].astype(str) == str(value)
    return kept


@lru_cache(maxsize=1)
def _prepare(source: str, settings: PreprocessingConfig) -> PreparedCohort:
    return prepare_options(CohortOptions(source, HEALTHY), settings)[0]
