"""`brainage train`: a cohort in, a tested model out."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.bundle import save_bundle
from brainage.config import Config
from brainage.data.splits import Split, make_folds, make_split
from brainage.errors import TrainingError
from brainage.evaluation.baselines import baseline_metrics, baseline_predictions
from brainage.evaluation.figures import plot_training_curves
from brainage.evaluation.metrics import age_metrics
from brainage.inference import PREDICTION_COLUMNS
from brainage.model import block_count
from brainage.preprocessing.ledger import write_ledger
from brainage.tracking import Run, Tracker, final_metrics, run_name, run_tags
from brainage.training.callbacks import Callback, EpochRecord, ProgressBar
from brainage.training.resources import choose_device
from brainage.training.run import (
    PreparedCohort,
    TrainedRun,
    describe_cohort,
    schedule_of,
    train_run,
)
from brainage.types import Json
from pipelines.cohorts import CohortOptions, prepare_options
from pipelines.console import say, warn
from pipelines.results import plot_predictions, write_json, write_table

CHECKPOINT = Path("training") / "checkpoint.safetensors"
Baselines = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class TrainOptions:
    """Beside cohort and configuration: where, how many folds, and what to do with an old run."""

    output: Path
    folds: int = 1
    resume: bool = False
    overwrite: bool = False
    device: str = "auto"
    tracking_uri: str | None = None


class LogEpochs(Callback):
    """Send every epoch to the tracker."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Log the epoch's numbers."""
        self._run.log_metrics(record.metrics(), step=record.epoch)


def train(cohort_options: CohortOptions, config: Config, options: TrainOptions) -> Json:
    """Train on every fold, test, compare with the baselines, write bundle, tables and pictures."""
    check_output(options)
    device = choose_device(options.device)
    prepared, entries = prepare_options(cohort_options, config.preprocessing)
    splits = choose_splits(prepared, config, options.folds)
    write_ledger(entries, options.output / "ledger.csv")
    say(describe_scans(prepared, splits, len(entries)))
    tracker = Tracker(Path.cwd(), options.tracking_uri, on_warning=warn)
    tables = []
    for fold, split in enumerate(splits):
        folder = options.output if len(splits) == 1 else options.output / f"fold-{fold}"
        tags = tags_of(config, prepared, fold)
        name = run_name(config.learning.method, config.seed, fold)
        with tracker.start_run(name, tags=tags, params=config.model_dump(mode="json")) as run:
            progress = ProgressBar(name)
            trained = train_run(
                prepared,
                split,
                config,
                device=device,
                callbacks=[progress, LogEpochs(run)],
                checkpoint_path=folder / CHECKPOINT,
                resume=options.resume,
            )
            baselines = fit_baselines(prepared, split, config.seed)
            table, metrics = write_run(folder, trained, prepared, split, baselines)
            run.log_metrics(tracked_results(metrics))
            run.log_artifact_folder(folder)
        tables.append(table.assign(fold=fold))
    predictions = pd.concat(tables, ignore_index=True)
    if len(splits) > 1:
        write_results(options.output, predictions, config.seed, prepared.synthetic)
    metrics = score(predictions, config.seed)
    say(summarise(metrics, options.output))
    return metrics


def write_run(
    folder: Path,
    trained: TrainedRun,
    prepared: PreparedCohort,
    split: Split,
    baselines: Baselines,
) -> tuple[pd.DataFrame, Json]:
    """Write a trained run: bundle, predictions, metrics, history and pictures."""
    seed, synthetic = trained.config.seed, prepared.synthetic
    named = {f"{name}_predicted_age_years": values for name, values in baselines.items()}
    table = trained.predictions.assign(**named)
    metrics = score(table, seed) | costs(trained)
    facts = describe_cohort(prepared, split) | {"metrics": metrics}
    save_bundle(folder, trained.model, trained.config, facts)
    write_results(folder, table, seed, synthetic, costs(trained))
    history = [{"epoch": record.epoch, **record.metrics()} for record in trained.history]
    write_table(pd.DataFrame(history), folder / "history.csv")
    plot_training_curves(history, folder / "training_curves.png", synthetic=synthetic)
    return table, metrics


def check_output(options: TrainOptions) -> None:
    """Refuse to overwrite a run by accident.

    Raises
    ------
    TrainingError
        If the folder holds a run and neither `resume` nor `overwrite` is given.
    """
    used = [
        path
        for name in ("manifest.json", str(CHECKPOINT))
        for path in (options.output / name, *options.output.glob(f"fold-*/{name}"))
        if path.exists()
    ]
    if not used or options.resume:
        return
    if not options.overwrite:
        raise TrainingError(
            str(options.output),
            "already holds a run.",
            "Continue it with --resume, replace it with --overwrite, or choose another --output.",
        )
    for path in used:
        path.unlink()
    shutil.rmtree(options.output / CHECKPOINT.parent, ignore_errors=True)


def choose_splits(prepared: PreparedCohort, config: Config, folds: int) -> list[Split]:
    """One split, or as many as there are folds."""
    if folds == 1:
        return [make_split(prepared.cohort, config.split)]
    return make_folds(prepared.cohort, folds, config.split)


def fit_baselines(prepared: PreparedCohort, split: Split, seed: int) -> Baselines:
    """Predict the test scans with the constant and the linear model of the training scans."""
    return baseline_predictions(
        prepared.arrays[split.train],
        prepared.ages[split.train],
        prepared.arrays[split.test],
        train_subject_ids=list(prepared.cohort.table["subject_id"].iloc[split.train]),
        seed=seed,
    )


def score(table: pd.DataFrame, seed: int) -> Json:
    """Metrics of the network with those of the baselines below `baselines`."""
    subjects = list(table["subject_id"])
    metrics: dict[str, Any] = dict(
        age_metrics(
            table["age_years"], table["predicted_age_years"], subject_ids=subjects, seed=seed
        )
    )
    baselines: Baselines = {
        name: table[f"{name}_predicted_age_years"].to_numpy(np.float64)
        for name in ("constant", "linear")
        if f"{name}_predicted_age_years" in table
    }
    metrics["baselines"] = baseline_metrics(
        table["age_years"], baselines, subject_ids=subjects, seed=seed
    )
    return metrics


def costs(trained: TrainedRun) -> Json:
    """What the training took."""
    return {
        "seconds_per_epoch": trained.seconds_per_epoch,
        "peak_memory_mb": trained.peak_memory_mb,
        "epochs": len(trained.history),
        "kept_epoch": trained.kept_epoch,
    }


def write_results(
    folder: Path,
    table: pd.DataFrame,
    seed: int,
    synthetic: bool,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions.csv, metrics.json, the subgroup table and the pictures."""
    columns = [*PREDICTION_COLUMNS, *(name for name in table if name not in PREDICTION_COLUMNS)]
    write_table(table[columns], folder / "predictions.csv")
    write_json(score(table, seed) | dict(extra or {}), folder / "metrics.json")
    plot_predictions(table, folder, seed=seed, synthetic=synthetic)


def tracked_results(metrics: Json, seconds_to_target: float | None = None) -> Json:
    """Final numbers of a run under the tracker's names."""
    named: Json = final_metrics(
        metrics,
        seconds_per_epoch=metrics["seconds_per_epoch"],
        seconds_to_target=seconds_to_target,
        peak_memory_mb=metrics["peak_memory_mb"],
    )
    for name, values in metrics["baselines"].items():
        named[f"baseline_{name}_test_mae_years"] = values["mae_years"]
    return named


def tags_of(config: Config, prepared: PreparedCohort, fold: int | None) -> Json:
    """Tags by which runs are grouped in MLflow."""
    tags: Json = run_tags(
        method=config.learning.method,
        network=config.network.name,
        blocks=block_count(config),
        leader_fraction=config.learning.leader_fraction,
        seed=config.seed,
        cohort_hash=prepared.cohort.content_hash(),
        schedule=schedule_of(config.learning.method),
        fold=fold,
    )
    return tags | {"synthetic": prepared.synthetic}


def describe_scans(prepared: PreparedCohort, splits: list[Split], rows_in: int) -> str:
    """Say in one line what is trained on."""
    ages, split = prepared.ages, splits[0]
    folds = f", {len(splits)} folds" if len(splits) > 1 else ""
    return (
        f"{rows_in} rows in, {len(ages)} scans used, ages {ages.min():.0f} to {ages.max():.0f}; "
        f"{len(split.train)} train, {len(split.validation)} validate, {len(split.test)} test{folds}"
    )


def summarise(metrics: Json, output: Path) -> str:
    """Say in a few lines how good the model is."""
    baselines = metrics["baselines"]
    return (
        f"test MAE {metrics['mae_years']:.2f} years "
        f"(95 % CI {metrics['mae_ci_low']:.2f} to {metrics['mae_ci_high']:.2f}, n {metrics['n']}); "
        f"linear baseline {baselines['linear']['mae_years']:.2f}, "
        f"constant predictor {baselines['constant']['mae_years']:.2f}\n"
        f"written to {output}"
    )
