"""Names in the tracker: the same for all methods, so that charts put them side by side.

Per epoch: `train_loss`, `val_loss`, `val_mae_years`, `epoch_seconds`, `data_seconds` and
`block_{k}_val_mae_years`. At the end: `FINAL_METRICS`.
"""

from collections.abc import Mapping
from typing import Any

FINAL_METRICS = (
    "test_mae_years",
    "test_rmse_years",
    "test_r2",
    "seconds_per_epoch",
    "seconds_to_target",
    "peak_memory_mb",
)
USUAL_SCHEDULES = ("sequential", "end_to_end")
COMPARISON_NOTE = """\
Learning methods on the same folds, seeds, network and epochs; one child run for each.

- **Charts**: tick the child runs, group by tag `method`, and open `val_mae_years` (validation \
mean absolute error in years, against epoch or time) and `test_mae_years` (one bar a run).
- **Compare**: tick runs and press *Compare* for parameters and metrics side by side; \
`seconds_per_epoch`, `seconds_to_target` and `peak_memory_mb` are the costs.
- `test_mae_years/METHOD` of this run is the error over all test scans, as in `summary.csv`; \
`seconds_per_epoch/METHOD` and the like are medians over runs.
- **Artifacts** of this run: the comparison picture with intervals over subjects.
"""


def run_name(method: str, seed: int, fold: int | None = None, schedule: str = "sequential") -> str:
    """Name a run so that legends read well: ``lfnn_l seed 0 fold 1``.

    Parameters
    ----------
    method, schedule : str
        The schedule is shown unless it is the usual one.
    seed : int
        Seed of the run.
    fold : int, optional
        Number of the fold; absent for a single split.

    Returns
    -------
    str
        The name.
    """
    parts = [method, "" if schedule in USUAL_SCHEDULES else schedule, f"seed {seed}"]
    return " ".join(part for part in parts if part) + ("" if fold is None else f" fold {fold}")


def run_tags(
    *,
    method: str,
    network: str,
    blocks: int,
    leader_fraction: float | str,
    seed: int,
    cohort_hash: str,
    schedule: str = "sequential",
    fold: int | None = None,
) -> dict[str, str]:
    """Collect the tags that every run carries.

    Parameters
    ----------
    method, network, schedule : str
        Learning rule, preset of the network, order of training the blocks.
    blocks : int
        Number of blocks K.
    leader_fraction : float or "auto"
        δ.
    seed, fold : int
        Seed and fold; no tag `fold` for a single split.
    cohort_hash : str
        Digest of the cohort; no list of people.

    Returns
    -------
    dict of str
        Tag values as text.
    """
    tags: dict[str, Any] = {
        "method": method,
        "network": network,
        "blocks": blocks,
        "leader_fraction": leader_fraction,
        "seed": seed,
        "cohort_hash": cohort_hash,
        "schedule": schedule,
        "fold": fold,
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def final_metrics(
    test: Mapping[str, Any],
    *,
    seconds_per_epoch: float | None = None,
    seconds_to_target: float | None = None,
    peak_memory_mb: float | None = None,
) -> dict[str, float | None]:
    """Name a run's results.

    Parameters
    ----------
    test : mapping
        Result of `brainage.evaluation.metrics.age_metrics` on the test scans.
    seconds_per_epoch, seconds_to_target, peak_memory_mb : float, optional
        Training time and memory.

    Returns
    -------
    dict
        `FINAL_METRICS`; None for what is not known.
    """
    values = [test.get(name) for name in ("mae_years", "rmse_years", "r2")]
    costs = [seconds_per_epoch, seconds_to_target, peak_memory_mb]
    return dict(zip(FINAL_METRICS, values + costs, strict=True))
