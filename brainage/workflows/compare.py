"""Compare methods on the same folds, seeds, network and epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from brainage.cohorts.splits import Split
from brainage.config import Config, with_changes
from brainage.errors import ConfigError
from brainage.evaluation.comparison import (
    comparison_markdown,
    comparison_table,
    rank_unreached,
    seconds_to_target,
    summarise_comparison,
)
from brainage.files import atomic_write_text, hold_folder
from brainage.lfnn.rules import METHOD_RULES
from brainage.plotting.figures import plot_comparison
from brainage.preprocessing.ledger import write_ledger
from brainage.tracking import COMPARISON_NOTE, TABLES, Run, Tracker, log_overview, run_name
from brainage.training.options import TrainOptions
from brainage.training.resources import choose_device
from brainage.training.run import (
    PreparedCohort,
    TrainedRun,
    schedule_of,
    train_run,
)
from brainage.types import Json
from brainage.workflows.cohorts import CohortInput, CohortOptions, as_options, prepare_options
from brainage.workflows.console import say, warn
from brainage.workflows.crossval import plan_runs
from brainage.workflows.results import write_table
from brainage.workflows.settings import check_methods, choose_config
from brainage.workflows.train import (
    Baselines,
    LogEpochs,
    build_options,
    check_output,
    describe_scans,
    fit_baselines,
    show_progress,
    tags_of,
    tracked_results,
    write_run,
)

# Options of a training that a comparison would not heed, or count as further scans.
_UNREAD = {"repeats", "baselines", "check_leakage"}


def compare(
    cohort: CohortInput,
    output: str | Path,
    methods: Sequence[str] = ("bp", "lfnn_l"),
    *,
    seeds: int = 1,
    config: Config | str | Path = "cnn3d_light",
    settings: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Train several methods on the same folds and seeds, and set them side by side.

    Methods take turns inside a seed and fold, so that a machine that slows down slows all.
    Finished runs of an interrupted comparison are taken up again with `resume`.

    Parameters
    ----------
    cohort : path, Cohort or CohortReading
        As in `brainage.train`.
    output : path
        Folder to write: ``comparison.csv``, ``summary.csv``, ``predictions.csv``, pictures, and
        each run in ``runs``; with `leave_site_out` also ``sites.csv``, the summary of each site.
    methods : sequence of str
        Learning methods, of `brainage.types.METHODS`.
    seeds : int
        Number of seeds, from the setting `seed` on.
    config, settings, cache
        As in `brainage.train`.
    **options
        Attributes of `TrainOptions`: `folds`, `leave_site_out`, `resume`, `overwrite`, `device`,
        `tracking_uri`.

    Returns
    -------
    pandas.DataFrame
        One row a method: errors over seeds and folds, paired differences, seconds and memory.

    Raises
    ------
    ConfigError
        If a method or setting is unknown, or an option is one of `brainage.train` alone.
    CohortError
        If a scan cannot be used, or there are too few subjects.

    Examples
    --------
    >>> import tempfile, warnings
    >>> from pathlib import Path
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> cohort = write_phantom_cohort(root / "phantoms", subjects=6, seed=0)
    >>> summary = brainage.compare(
    ...     cohort,
    ...     root / "run",
    ...     config="phantom",
    ...     settings={"training.epochs": 1},
    ... )
    >>> summary["method"].tolist()
    ['bp', 'lfnn_l']
    >>> folder.cleanup()
    """
    if unread := sorted(_UNREAD & options.keys()):
        problem = f"takes no {', '.join(unread)}."
        raise ConfigError("compare", problem, "Repeat by seeds; the baselines are the usual ones.")
    methods = check_methods(methods)
    chosen = build_options(output, options)
    resolved = choose_config(config, settings, methods, chosen.draws_test)
    with hold_folder(chosen.folder):
        return _compare(as_options(cohort, cache), resolved, chosen, methods, seeds)


def _compare(
    cohort_options: CohortOptions,
    config: Config,
    options: TrainOptions,
    methods: Sequence[str],
    seeds: int,
) -> pd.DataFrame:
    check_output(options)
    choose_device(options.device)  # refused before any scan is prepared
    copies = config.augmentation.stranger_copies
    prepared, entries = prepare_options(cohort_options, config.preprocessing, copies)
    splits = [run.split for run in plan_runs(prepared, config, options)]
    write_ledger(entries, options.folder / "ledger.csv")
    say(describe_scans(prepared, splits, len(entries)))
    tracker = Tracker(Path.cwd(), options.tracking_uri, on_warning=warn)
    job = _Job(prepared, config, options, methods, tracker)
    rows: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    tags = tags_of(config, prepared, None) | {"method": None, "seed": None}
    with tracker.start_run(
        f"compare {', '.join(methods)}", tags=tags, note=COMPARISON_NOTE
    ) as parent:
        for fold, split in enumerate(splits):
            baselines = fit_baselines(prepared, split, config)
            for seed in range(config.seed, config.seed + seeds):
                job.run_methods(parent, seed, fold, split, baselines, rows, tables)
        runs, predictions = comparison_table(rows), pd.concat(tables, ignore_index=True)
        summary = summarise_comparison(runs, predictions)
        write_table(runs, options.folder / "comparison.csv")
        write_table(predictions, options.folder / "predictions.csv")
        write_table(summary, options.folder / "summary.csv")
        markdown = comparison_markdown(summary)
        if options.leave_site_out:
            markdown += _write_sites(options.folder, runs, predictions)
        atomic_write_text(options.folder / "comparison.md", markdown + "\n")
        picture = options.folder / "comparison.png"
        plot_comparison(summary, picture, runs=runs, synthetic=prepared.synthetic)
        parent.log_figure(picture)
        curves = pd.concat(job.histories, ignore_index=True)
        write_table(curves, options.folder / "curves.csv")
        parent.log_tables([options.folder / name for name in TABLES])
        errors = dict(zip(summary["method"], summary["mae_years"], strict=True))
        log_overview(parent, rank_unreached(runs), curves, errors=errors)
    say(markdown)
    say(f"written to {options.folder}")
    return summary


def _write_sites(folder: Path, runs: pd.DataFrame, predictions: pd.DataFrame) -> str:
    """Write and return the summary on each site by models of the others: a fold is a site."""
    parts = {
        str(site): summarise_comparison(runs[runs["fold"] == part["fold"].iloc[0]], part)
        for site, part in predictions.groupby("site")
    }
    named = [summary.assign(site=site) for site, summary in parts.items()]
    table = pd.concat(named, ignore_index=True)
    write_table(table[["site", *table.columns.drop("site")]], folder / "sites.csv")
    return "".join(
        f"\nLeft out: {site}\n\n{comparison_markdown(summary)}" for site, summary in parts.items()
    )


@dataclass(frozen=True)
class _Job:
    prepared: PreparedCohort
    config: Config
    options: TrainOptions
    methods: Sequence[str]
    tracker: Tracker
    histories: list[pd.DataFrame] = field(default_factory=list)

    def run_methods(
        self,
        parent: Run,
        seed: int,
        fold: int,
        split: Split,
        baselines: Baselines,
        rows: list[dict[str, Any]],
        tables: list[pd.DataFrame],
    ) -> None:
        """Train all methods on one seed and fold; BP first, since it sets the target."""
        target: float | None = None
        for method in sorted(self.methods, key=lambda name: name != "bp"):
            config = _config_of(method, seed, self.config)
            name = run_name(method, seed, fold, schedule_of(config.learning))
            tags = tags_of(config, self.prepared, fold)
            params = config.model_dump(mode="json")
            with self.tracker.start_run(name, tags=tags, params=params, parent=parent) as run:
                trained, metrics = self._train(config, split, fold, run, baselines)
                if method == "bp":
                    target = trained.history[-1].val_score
                reached = _seconds_to(trained, target)
                run.log_metrics(tracked_results(metrics, reached))
            row: Json = {"method": method, "schedule": schedule_of(config.learning)}
            row |= {"seed": seed, "fold": fold}
            row |= {key: metrics[key] for key in ("mae_years", "seconds_per_epoch")}
            rows.append(
                row | {"seconds_to_target": reached, "peak_memory_mb": trained.peak_memory_mb}
            )
            tables.append(trained.predictions.assign(method=method, seed=seed, fold=fold))
            epochs = pd.DataFrame([record.row() for record in trained.history])
            self.histories.append(epochs.assign(method=method, seed=seed, fold=fold))

    def _train(
        self, config: Config, split: Split, fold: int, run: Run, baselines: Baselines
    ) -> tuple[TrainedRun, Json]:
        method = config.learning.method
        options = self.options.at(f"runs/{method}-seed{config.seed}-fold{fold}")
        trained = train_run(
            self.prepared,
            split,
            config,
            options=options,
            callbacks=[
                *show_progress(f"{method} seed {config.seed} fold {fold}"),
                LogEpochs(run),
            ],
        )
        _, metrics = write_run(options.folder, trained, self.prepared, split, baselines)
        run.log_artifact_folder(options.folder)
        return trained, metrics


def _config_of(method: str, seed: int, config: Config) -> Config:
    """Return one run's settings; methods whose blocks do not learn alone have no schedule."""
    learning = config.learning
    if METHOD_RULES[method].hidden_loss is None:
        absent = ("freeze_after", "update_every", "patience_epochs")
        changes = {"schedule": "sequential", **dict.fromkeys(absent)}
        config = config.model_copy(update={"learning": learning.model_copy(update=changes)})
    return with_changes(config, {"learning.method": method, "seed": seed})


def _seconds_to(trained: TrainedRun, target: float | None) -> float | None:
    if target is None:
        return None
    return seconds_to_target([record.row() for record in trained.history], target)
