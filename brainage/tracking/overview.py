"""Methods side by side in one run, so that MLflow's chart page shows them at first sight.

MLflow folds child runs away and draws only what is listed. Metrics ``NAME/METHOD`` of one run make
one section a name: error, time and memory, with a bar or a line for each method.
"""

import re
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from brainage.tracking.tracker import Run

if TYPE_CHECKING:
    import pandas as pd

CURVE = "val_mae_years"
COMPARISON_BARS = {"mae_years": "test_mae_years"} | {
    name: name for name in ("seconds_per_epoch", "seconds_to_target", "peak_memory_mb")
}
SPEED_BARS = {
    name: name
    for name in (
        *("test_mae_years", "seconds_per_step", "seconds_per_epoch", "seconds_to_target"),
        *("seconds_in_all", "peak_memory_mb", "activation_mb", "tensor_mb"),
    )
}
# A slash would open another section.
_NOT_ALLOWED = re.compile(r"[^\w\-. ]+", re.ASCII)


def log_overview(
    run: Run,
    results: "pd.DataFrame",
    curves: "pd.DataFrame",
    bars: dict[str, str] = COMPARISON_BARS,
    errors: Mapping[str, float] | None = None,
) -> None:
    """Log each method's mean curve and median results to one run.

    Parameters
    ----------
    results : pandas.DataFrame
        One row a run: `method` and the columns that `bars` names.
    curves : pandas.DataFrame
        `method`, `epoch` and `val_mae_years`; may be empty.
    bars : dict of str
        Columns of `results` and what the metric is called.
    errors : mapping of str to float, optional
        Each method's error over all test scans, as the table of the comparison has it: it takes
        the place of the median over runs, which weighs small folds as much as large ones.
    """
    if not curves.empty:
        means = curves.groupby(["epoch", "method"], as_index=False)[CURVE].mean().dropna()
        for epoch in sorted(set(means["epoch"])):
            part = means[means["epoch"] == epoch]
            points = zip(part["method"], part[CURVE], strict=True)
            run.log_metrics({_name(CURVE, method): value for method, value in points}, int(epoch))
    medians = results.groupby("method", sort=False)[list(bars)].median()
    values = {
        _name(metric, method): float(value)
        for column, metric in bars.items()
        for method, value in medians[column].items()
    }
    told = {_name("test_mae_years", name): value for name, value in (errors or {}).items()}
    run.log_metrics(values | told)


def _name(metric: str, method: Hashable) -> str:
    return f"{metric}/{_NOT_ALLOWED.sub(' ', str(method)).strip()}"
