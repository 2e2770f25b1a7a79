"""Train a network on a cohort, test it, and write the model with its results."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.cohorts.splits import Split
from brainage.config import Config
from brainage.errors import TrainingError
from brainage.evaluation.baselines import baseline_predictions, check_names
from brainage.evaluation.bounds import INTERVAL_COLUMNS
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.features import TissuePriors
from brainage.evaluation.metrics import describe_unbeaten
from brainage.evaluation.normative import make_reference
from brainage.evaluation.out_of_fold import baseline_column
from brainage.files import hold_folder
from brainage.model.build import block_count
from brainage.model.bundle import save_bundle
from brainage.plotting.figures import plot_training_curves
from brainage.preprocessing.ledger import write_ledger
from brainage.preprocessing.priors import load_tissue_maps
from brainage.tracking import Run, Tracker, final_metrics, run_name, run_tags
from brainage.training.callbacks import Callback, EpochRecord, ProgressBar
from brainage.training.options import CHECKPOINT, TrainOptions, started_by_torchrun
from brainage.training.resources import choose_device
from brainage.training.run import PreparedCohort, TrainedRun, schedule_of, train_run
from brainage.types import DEFAULT_BASELINES, Json
from brainage.workflows.cohorts import CohortInput, CohortOptions, as_options, prepare_options
from brainage.workflows.console import is_shown, say, show_output, warn
from brainage.workflows.crossval import (
    PlannedRun,
    check_leakage,
    finish_folds,
    plan_runs,
    refuse_others,
)
from brainage.workflows.results import (
    RESULT_FILES,
    describe_mae,
    describe_training,
    fit_ood_where_possible,
    quality_facts,
    score,
    write_left_out,
    write_results,
    write_table,
)
from brainage.workflows.settings import choose_config

Baselines = dict[str, NDArray[np.float64]]


def build_options(output: str | Path, words: Mapping[str, Any]) -> TrainOptions:
    """Build training options from keywords; no tracker is used unless one is named."""
    return TrainOptions(output=Path(output), **{"tracking_uri": "off", **words})


def options_of_rank(options: TrainOptions) -> TrainOptions:
    """Make a rank of `torchrun` other than the first leave nothing behind."""
    if started_by_torchrun() is None or os.environ["RANK"] == "0":
        return options
    show_output(False)
    folder = tempfile.mkdtemp(prefix="brainage-rank-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return replace(options, output=Path(folder), tracking_uri="off")


def show_progress(title: str) -> list[Callback]:
    """Make the callback that draws a bar, where output is shown."""
    return [ProgressBar(title)] if is_shown() else []


class LogEpochs(Callback):
    """Send every epoch to the tracker, those before a resumed run went on too."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Log the epoch's numbers."""
        self._run.log_metrics(record.metrics(), step=record.epoch)

    on_past_epoch = on_epoch_end


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training gave.

    Attributes
    ----------
    folder : pathlib.Path
        Where the model lies: what `brainage.load_model` takes.
    metrics : dict
        Raw errors on scans that were not learned from, of the network and its `baselines`.
    predictions : pandas.DataFrame
        Predictions of these scans, with intervals; out of fold where there are folds.
    """

    folder: Path
    metrics: Json
    predictions: pd.DataFrame


def train(
    cohort: CohortInput,
    output: str | Path,
    config: Config | str | Path = "cnn3d_light",
    *,
    settings: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    **options: Any,
) -> TrainingResult:
    """Train a network on a cohort, test it on held-out subjects, and write the model.

    Writes the model, predictions with intervals, metrics, history and pictures, and compares with
    the baselines; a network that does not beat them warns. Folds also become members of one
    ensemble in the output folder.

    Parameters
    ----------
    cohort : path, Cohort or CohortReading
        Table (CSV, TSV) or BIDS folder, or what `brainage.read_cohort` returned.
    output : path
        Folder to write.
    config : str, path or Config
        Name of a preset (``brainage presets`` lists them), YAML file or configuration.
    settings : mapping, optional
        Changes by dotted key, such as ``{"learning.method": "bp", "training.epochs": 5}``.
    cache : pathlib.Path, optional
        Folder of prepared scans; absent: the user's cache folder.
    **options
        Attributes of `TrainOptions`: `folds`, `repeats`, `leave_site_out`, `baselines`,
        `check_leakage`, `resume`, `overwrite`, `device`, `processes`, `replicas`, `tracking_uri`
        (``off`` unless named; None: MLFLOW_TRACKING_URI, or ``mlflow.db`` here).

    Returns
    -------
    TrainingResult
        `folder`, `metrics` and `predictions`.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range.
    CohortError
        If a scan cannot be used, or there are too few subjects.
    TrainingError
        If the folder holds a run and neither `resume` nor `overwrite` is given.

    Examples
    --------
    >>> import tempfile, warnings
    >>> from pathlib import Path
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> cohort = write_phantom_cohort(root / "phantoms", subjects=6, seed=0)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # one epoch beats no baseline
    ...     run = brainage.train(
    ...         cohort, root / "run", "phantom", settings={"training.epochs": 1}
    ...     )
    >>> run.metrics["n"], sorted(run.metrics["baselines"])
    (1, ['constant', 'linear'])
    >>> model = brainage.load_model(run.folder)
    >>> folder.cleanup()
    """
    chosen = options_of_rank(build_options(output, options))
    resolved = choose_config(config, settings, draws_test=chosen.draws_test)
    with hold_folder(chosen.folder):
        return _train(as_options(cohort, cache), resolved, chosen)


def _train(cohort_options: CohortOptions, config: Config, options: TrainOptions) -> TrainingResult:
    check_output(options)
    check_names(options.baselines)
    choose_device(options.device)  # refused before any scan is prepared
    copies = config.augmentation.stranger_copies
    prepared, entries = prepare_options(cohort_options, config.preprocessing, copies)
    planned = plan_runs(prepared, config, options)
    refuse_others(options.folder, planned)
    write_ledger(entries, options.folder / "ledger.csv")
    say(describe_scans(prepared, [run.split for run in planned], len(entries)))
    leakage = check_leakage(prepared, planned, options)
    tracker = Tracker(Path.cwd(), options.tracking_uri, on_warning=warn)
    job = _TrainJob(prepared, options, tracker)
    tables = [job.train(run, leakage) for run in planned]
    predictions = tables[0]
    if len(planned) > 1:
        predictions = finish_folds(options.folder, tables, planned, prepared, leakage)
    if options.leave_site_out:
        say(write_left_out(options.folder, predictions, config.seed))
    metrics = score(predictions, config.seed)
    say(summarise(metrics, options.folder))
    if unbeaten := describe_unbeaten(metrics):
        warn(f"{unbeaten}.")
    return TrainingResult(options.folder, metrics, predictions)


@dataclass(frozen=True)
class _TrainJob:
    prepared: PreparedCohort
    options: TrainOptions
    tracker: Tracker

    def train(self, planned: PlannedRun, leakage: Json) -> pd.DataFrame:
        """Train, test and write one run; its test predictions with fold and repeat."""
        config, options = planned.config, self.options.at(planned.name)
        tags = tags_of(config, self.prepared, planned.fold)
        schedule = schedule_of(config.learning)
        name = run_name(config.learning.method, config.seed, planned.fold, schedule)
        params = config.model_dump(mode="json")
        with self.tracker.start_run(name, tags=tags, params=params) as run:
            trained = train_run(
                self.prepared,
                planned.split,
                config,
                options=options,
                callbacks=[*show_progress(name), LogEpochs(run)],
            )
            baselines = fit_baselines(self.prepared, planned.split, config, options.baselines)
            table, metrics = write_run(
                options.folder, trained, self.prepared, planned.split, baselines, leakage
            )
            run.log_metrics(tracked_results(metrics))
            run.log_artifact_folder(options.folder)
        return table.assign(repeat=planned.repeat, fold=planned.fold)


def write_run(
    folder: Path,
    trained: TrainedRun,
    prepared: PreparedCohort,
    split: Split,
    baselines: Baselines,
    leakage: Json | None = None,
) -> tuple[pd.DataFrame, Json]:
    """Write a trained run: bundle, predictions with intervals, metrics, history and pictures."""
    seed, synthetic = trained.config.seed, prepared.synthetic
    named = {baseline_column(name): values for name, values in baselines.items()}
    calibration = calibrate_on(trained.validation, trained.config)
    table = trained.predictions.assign(**named)
    bounds = calibration.predict(table["predicted_age_years"], table["spread_years"])
    table = table.assign(**dict(zip(INTERVAL_COLUMNS, bounds.T, strict=True)))
    metrics = score(table, seed) | costs(trained)
    held_out = pd.concat([trained.validation, trained.predictions], ignore_index=True)
    facts = describe_training(prepared, split) | {
        "metrics": metrics,
        "calibration": calibration.to_json(),
        "reference": make_reference(held_out, "held_out").to_json(),
        "leakage": leakage or {},
        **quality_facts(table, seed),
    }
    people = prepared.cohort.select(split.train).table
    ood = fit_ood_where_possible(prepared.arrays[split.train], people, seed)
    write_results(folder, table, metrics | {"leakage": leakage or {}}, seed, synthetic)
    history = [record.row() for record in trained.history]
    write_table(pd.DataFrame(history), folder / "history.csv")
    plot_training_curves(history, folder / "training_curves.png", synthetic=synthetic)
    # Last: where there is a manifest, all else of the run is there.
    save_bundle(folder, trained.model, trained.config, facts, ood)
    return table, metrics


def calibrate_on(table: pd.DataFrame, config: Config) -> ConformalInterval:
    """Fit intervals on predictions of scans that no weight was fitted to."""
    inference = config.inference
    return ConformalInterval(inference.interval, inference.min_band_scans).fit(
        table["predicted_age_years"],
        table["age_years"],
        table["spread_years"],
        list(table["subject_id"]),
    )


def check_output(options: TrainOptions) -> None:
    """Refuse to overwrite a run by accident.

    Raises
    ------
    TrainingError
        If the folder holds a run and neither `resume` nor `overwrite` is given.
    """
    folder = options.folder
    places = (folder, *folder.glob("*fold-*"), *folder.glob("runs/*"))
    used = [
        path
        for place in places
        for path in (place / "manifest.json", place / CHECKPOINT)
        if path.exists()
    ]
    if not used or options.resume:
        return
    if not options.overwrite:
        raise TrainingError(
            str(folder),
            "already holds a run.",
            "Continue it with --resume, replace it with --overwrite, or choose another --output.",
        )
    try:
        for place in places:
            for name in ("manifest.json", *RESULT_FILES):
                (place / name).unlink(missing_ok=True)
            shutil.rmtree(place / CHECKPOINT.parent, ignore_errors=True)
    except OSError as error:
        problem = f"cannot be removed ({error.strerror})."
        raise TrainingError(str(error.filename), problem) from error


def fit_baselines(
    prepared: PreparedCohort,
    split: Split,
    config: Config,
    names: tuple[str, ...] = DEFAULT_BASELINES,
) -> Baselines:
    """Predict the test scans with the chosen models of the training scans."""
    priors = None
    if "volumes" in names:
        maps = load_tissue_maps(config.preprocessing)
        priors = TissuePriors(*maps, config.preprocessing.spacing_mm)
    return baseline_predictions(
        prepared.arrays[split.train],
        prepared.ages[split.train],
        prepared.arrays[split.test],
        names=names,
        train_subject_ids=list(prepared.cohort.table["subject_id"].iloc[split.train]),
        priors=priors,
        seed=config.seed,
    )


def costs(trained: TrainedRun) -> Json:
    """Say what the training took."""
    return {
        "seconds_per_epoch": trained.seconds_per_epoch,
        "peak_memory_mb": trained.peak_memory_mb,
        "epochs": len(trained.history),
        "kept_epoch": trained.kept_epoch,
    }


def tracked_results(metrics: Json, seconds_to_target: float | None = None) -> Json:
    """Return final numbers of a run under the tracker's names."""
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
        schedule=schedule_of(config.learning),
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
    listed = "".join(
        f"; {name} {values['mae_years']:.2f}" for name, values in metrics["baselines"].items()
    )
    return f"test {describe_mae(metrics)}{listed}\nwritten to {output}"
