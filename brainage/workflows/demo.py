"""Run the whole path on phantoms, in minutes: compare, predict, report, register."""

from pathlib import Path

import numpy as np
import pandas as pd

from brainage.evaluation.metrics import paired_difference, subject_interval
from brainage.evaluation.out_of_fold import baseline_column
from brainage.files import atomic_write_text
from brainage.model.bundle import copy_bundle, load_bundle
from brainage.tracking import Tracker
from brainage.workflows.cohorts import DEMO, DEMO_SUBJECTS, CohortOptions
from brainage.workflows.compare import compare
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.models import register_bundle
from brainage.workflows.predict import PredictOptions, predict
from brainage.workflows.report import write_report
from brainage.workflows.results import write_table

SEEDS, UNSEEN_SCANS = 3, 5


def demo(output: Path) -> None:
    """Compare bp and lfnn_l on phantoms, predict scans that trained nothing, report on one.

    Parameters
    ----------
    output : pathlib.Path
        Folder to write: ``comparison``, ``baselines.md``, ``predictions.csv``, ``model``,
        ``report`` and the tracker's ``mlflow.db``.
    """
    say(f"demo: {DEMO_SUBJECTS} phantoms, two methods, {SEEDS} seeds; minutes, not seconds")
    cohort = CohortOptions(DEMO, cache=output / "cache")
    uri = f"sqlite:///{(output / 'mlflow.db').resolve()}"
    comparison = output / "comparison"
    compare(cohort, comparison, config="phantom", seeds=SEEDS, overwrite=True, tracking_uri=uri)
    runs = {
        method: [comparison / "runs" / f"{method}-seed{seed}-fold0" for seed in range(SEEDS)]
        for method in ("bp", "lfnn_l")
    }
    table = beside_baselines({name: _read_runs(folders) for name, folders in runs.items()})
    write_table(table, output / "baselines.csv")
    atomic_write_text(output / "baselines.md", baselines_markdown(table))
    say(baselines_markdown(table))
    model = runs["lfnn_l"][0]
    tested = read_predictions(model / "predictions.csv").head(UNSEEN_SCANS)
    unseen = find_scans(tested, cohort.cache_dir)
    write_table(unseen, output / "unseen.csv")
    people = CohortOptions(str(output / "unseen.csv"))
    options = PredictOptions(cache=cohort.cache_dir)
    predict(people, model, output / "predictions.csv", options)
    bundle = load_bundle(model)
    copy_bundle(bundle, output / "model", {})
    register_bundle(Tracker(output, uri, on_warning=warn), output / "model", bundle)
    scan, known = unseen["path"][0], float(unseen["age_years"][0])
    write_report(scan, output / "report", output / "model", age_years=known)
    say(
        f"open first: {comparison / 'comparison.png'}\n"
        f"then: {output / 'report' / 'report.html'}\n"
        f"model: {output / 'model'}\n"
        f"experiments: brainage mlflow --tracking-uri {uri}"
    )


def find_scans(tested: pd.DataFrame, cache: Path) -> pd.DataFrame:
    """Tabulate phantoms with ages and whole paths: others are from the table's own folder."""
    paths = [
        str(next(cache.resolve().glob(f"phantoms/**/{scan_id}*_T1w.nii.gz")))
        for scan_id in tested["scan_id"]
    ]
    return tested[["scan_id", "age_years"]].assign(path=paths).reset_index(drop=True)


def beside_baselines(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Set each method beside the constant and the linear predictor on the same test scans.

    Parameters
    ----------
    predictions : dict of str to pandas.DataFrame
        For each method the test predictions of all its seeds: `subject_id`, `age_years`,
        `predicted_age_years`, `constant_predicted_age_years`, `linear_predicted_age_years`.

    Returns
    -------
    pandas.DataFrame
        One row a predictor: `predictor`, `mae_years` with its 95 % interval `mae_ci_low`,
        `mae_ci_high`, and the paired difference of a method's error from the linear baseline's,
        `minus_linear_years`, `minus_linear_ci_low`, `minus_linear_ci_high` (below 0: better).
        Intervals are bootstrapped over subjects.
    """
    rows = []
    any_method = next(iter(predictions.values()))
    for name in ("constant", "linear"):
        rows.append(_row(name, any_method, baseline_column(name)))
    for name, table in predictions.items():
        difference = paired_difference(
            _errors(table, "predicted_age_years"),
            _errors(table, baseline_column("linear")),
            list(table["subject_id"]),
        )
        rows.append(
            _row(name, table, "predicted_age_years")
            | {
                "minus_linear_years": difference["mean"],
                "minus_linear_ci_low": difference["ci_low"],
                "minus_linear_ci_high": difference["ci_high"],
            }
        )
    return pd.DataFrame(rows)


def baselines_markdown(table: pd.DataFrame) -> str:
    """Render the table of `beside_baselines` as Markdown."""
    lines = ["| Predictor | MAE, years | MAE − linear, years |", "| --- | ---: | ---: |"]
    for row in table.to_dict("records"):
        error = f"{row['mae_years']:.2f} [{row['mae_ci_low']:.2f}, {row['mae_ci_high']:.2f}]"
        difference = "–"
        if pd.notna(row["minus_linear_years"]):
            low, high = row["minus_linear_ci_low"], row["minus_linear_ci_high"]
            difference = f"{row['minus_linear_years']:+.2f} [{low:+.2f}, {high:+.2f}]"
        lines.append(f"| {row['predictor']} | {error} | {difference} |")
    return "\n".join(lines) + "\n"


def _read_runs(folders: list[Path]) -> pd.DataFrame:
    return pd.concat([read_predictions(folder / "predictions.csv") for folder in folders])


def _errors(table: pd.DataFrame, column: str) -> "pd.Series[float]":
    return (table[column] - table["age_years"]).abs()


def _row(name: str, table: pd.DataFrame, column: str) -> dict[str, object]:
    errors = _errors(table, column)
    low, high = subject_interval(
        np.asarray(errors, np.float64), list(table["subject_id"]), seed=0, bootstrap=2000
    )
    return {
        "predictor": name,
        "mae_years": float(errors.mean()),
        "mae_ci_low": low,
        "mae_ci_high": high,
    }
