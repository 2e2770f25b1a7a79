"""Studies on brain scans: a run is a cross-validation, and runs are paired scan by scan."""

from functools import lru_cache

import numpy as np
import pandas as pd

from brainage.cohorts.splits import make_folds
from brainage.config import PreprocessingConfig
from brainage.evaluation.metrics import age_metrics
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort, train_run
from brainage.workflows.benchmark import default_data_root
from brainage.workflows.cohorts import CohortOptions, prepare_options
from pipelines.study.plan import Case
from pipelines.study.records import Outcome, StudyOptions

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


@lru_cache(maxsize=1)
def _prepare(source: str, settings: PreprocessingConfig) -> PreparedCohort:
    return prepare_options(CohortOptions(source, HEALTHY, skip_bad=True), settings)[0]
