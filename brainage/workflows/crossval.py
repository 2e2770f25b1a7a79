"""Plan runs of repeated cross-validation, join what they give, and check for leakage."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import (
    Split,
    make_column_folds,
    make_folds,
    make_site_folds,
    make_split,
)
from brainage.config import Config, SplitConfig
from brainage.errors import ConfigError, TrainingError
from brainage.evaluation.baselines import baseline_predictions
from brainage.evaluation.conformal import ConformalInterval, out_of_fold_intervals
from brainage.evaluation.leakage import permuted_age_check
from brainage.evaluation.normative import make_reference
from brainage.evaluation.out_of_fold import average_repeats
from brainage.model.bundle import load_bundle, save_ensemble
from brainage.training.options import CHECKPOINT, TrainOptions
from brainage.training.run import PreparedCohort, train_run
from brainage.types import Json
from brainage.workflows.console import say, warn
from brainage.workflows.results import (
    describe_training,
    fit_ood_where_possible,
    quality_facts,
    score,
    write_results,
    write_table,
)
from brainage.workflows.unheeded import tell_ages_outside

CHECKS = ("none", "linear", "network")
# A network trains once for every permutation and fold.
MOST_PERMUTATIONS = {"linear": 20, "network": 3}


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """Hold one training: a repeat's settings and a fold's split."""

    name: str
    repeat: int
    fold: int
    split: Split
    config: Config


def plan_runs(prepared: PreparedCohort, config: Config, options: TrainOptions) -> list[PlannedRun]:
    """Plan one split, or every fold of every repeat, each with its own split and training seed.

    With `leave_site_out` there is a fold for each site, which tests all of it. Text in `folds`
    names a column of the cohort that holds each scan's fold.

    Raises
    ------
    ConfigError
        If repeats are asked of a single split, or folds of sites, or no repeat at all.
    """
    folds, repeats, leave_site_out = options.folds, options.repeats, options.leave_site_out
    if repeats < 1:
        raise ConfigError("--repeats", f"expected 1 or more, got {repeats}.")
    if leave_site_out and folds != 1:
        raise ConfigError("--leave-site-out", "makes a fold of each site.", "Leave out --folds.")
    tell_ages_outside(config, list(prepared.ages))
    if folds == 1 and not leave_site_out:
        if repeats > 1:
            raise ConfigError("--repeats", "repeats need folds.", "Add --folds 5.")
        split = make_split(prepared.cohort, config.split)
        return [PlannedRun("", 0, 0, split, config)]
    planned = []
    for repeat in range(repeats):
        shifted = config.split.model_copy(update={"seed": config.split.seed + repeat})
        changed = config.model_copy(update={"split": shifted, "seed": config.seed + repeat})
        splits = _make_folds(prepared.cohort, folds, shifted, leave_site_out)
        for fold, split in enumerate(splits):
            name = f"fold-{fold}" if repeats == 1 else f"repeat-{repeat}-fold-{fold}"
            planned.append(PlannedRun(name, repeat, fold, split, changed))
    return planned


def refuse_others(folder: Path, planned: list[PlannedRun]) -> None:
    """Refuse to go on in a folder of other runs: theirs would be the results that are replaced.

    Raises
    ------
    TrainingError
        If a run lies there that is not planned.
    """
    names = {run.name for run in planned}
    places = {"": folder} | {path.name: path for path in folder.glob("*fold-*")}
    held = sorted(name for name, path in places.items() if (path / CHECKPOINT).exists())
    if others := [name or "a single split" for name in held if name not in names]:
        problem = f"holds other runs than these: {', '.join(others)}."
        remedy = "Resume with the same folds and repeats, or choose another --output."
        raise TrainingError(str(folder), problem, remedy)


def _make_folds(
    cohort: Cohort, folds: int | str, split: SplitConfig, leave_site_out: bool
) -> list[Split]:
    if leave_site_out:
        return make_site_folds(cohort, split)
    if isinstance(folds, str):
        return make_column_folds(cohort, folds, split)
    return make_folds(cohort, folds, split)


def finish_folds(
    folder: Path,
    tables: list[pd.DataFrame],
    planned: list[PlannedRun],
    prepared: PreparedCohort,
    leakage: Json,
) -> pd.DataFrame:
    """Join the runs: out-of-fold table, calibration, ensemble bundle, metrics and pictures.

    The intervals of a fold come from the other folds' residuals; those of the ensemble from all.
    Its members are averaged while each out-of-fold residual is of as many networks as there are
    repeats, so its intervals are, if anything, too wide.
    """
    config = planned[0].config
    every = pd.concat(tables, ignore_index=True)
    write_table(every, folder / "predictions_by_repeat.csv")
    kind, least = config.inference.interval, config.inference.min_band_scans
    table = average_repeats(every)
    table = out_of_fold_intervals(table, table["fold"], kind=kind, min_band_scans=least)
    calibration = ConformalInterval(kind, least).fit(
        table["predicted_age_years"],
        table["age_years"],
        table["spread_years"],
        list(table["subject_id"]),
        source="out_of_fold",
    )
    everyone = np.arange(len(prepared.cohort))
    nobody = np.empty(0, dtype=np.int64)
    names = [run.name for run in planned]
    metrics = score(table, config.seed)
    facts = describe_training(prepared, Split(everyone, nobody, nobody)) | {
        "metrics": metrics,
        "calibration": calibration.to_json(),
        "reference": make_reference(table, "out_of_fold").to_json(),
        "leakage": leakage,
        "model_age_range_years": _joint_range(folder, names),
        **quality_facts(table, config.seed),
    }
    ood = fit_ood_where_possible(prepared.arrays, prepared.cohort.table, config.seed)
    complete = metrics | {"leakage": leakage}
    write_results(folder, table, complete, config.seed, prepared.synthetic)
    save_ensemble(folder, names, facts, ood)
    return table


def check_leakage(
    prepared: PreparedCohort, planned: list[PlannedRun], options: TrainOptions
) -> Json:
    """Train on permuted ages over the first repeat's folds; say and return what r that gives.

    Raises
    ------
    ConfigError
        If `options.check_leakage` is not one of `CHECKS`.
    """
    how = options.check_leakage
    if how not in CHECKS:
        known = ", ".join(CHECKS)
        raise ConfigError("--check-leakage", f"unknown check {how!r}.", f"Known: {known}.")
    if how == "none":
        return {}
    first = [run for run in planned if run.repeat == 0]
    in_memory = replace(options, output=None, processes=1, replicas=1)
    config, subjects = first[0].config, list(prepared.cohort.table["subject_id"])

    def linear(split: Split, ages: NDArray[np.float64]) -> NDArray[np.float64]:
        return baseline_predictions(
            prepared.arrays[split.train],
            ages[split.train],
            prepared.arrays[split.test],
            names=("linear",),
            train_subject_ids=[subjects[i] for i in split.train],
            seed=config.seed,
        )["linear"]

    def network(split: Split, ages: NDArray[np.float64]) -> NDArray[np.float64]:
        cohort = Cohort(prepared.cohort.table.assign(age_years=ages), prepared.cohort.source)
        permuted = replace(prepared, cohort=cohort)
        trained = train_run(permuted, split, config, in_memory)
        return trained.predictions["predicted_age_years"].to_numpy(np.float64)

    fits = {"linear": linear} | ({"network": network} if how == "network" else {})
    results: Json = {}
    for name, fit in fits.items():
        results[name] = permuted_age_check(
            prepared.ages,
            subjects,
            [run.split for run in first],
            fit,
            config.seed,
            MOST_PERMUTATIONS[name],
        )
        tell = say if results[name]["passed"] else warn
        tell(
            f"leakage check, {name} on permuted ages: r {results[name]['r']:+.2f} "
            f"(limit {results[name]['limit']:.2f}, n {results[name]['n']}, "
            f"mean of {results[name]['permutations']} permutations)"
        )
    return results


def _joint_range(folder: Path, names: list[str]) -> list[float]:
    targets = [load_bundle(folder / name).config.target for name in names]
    lows = [target.low_years for target in targets if target.low_years is not None]
    highs = [target.high_years for target in targets if target.high_years is not None]
    return [min(lows), max(highs)]
