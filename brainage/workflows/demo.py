"""`brainage demo`: the whole path on phantoms, in minutes."""

from pathlib import Path

from brainage.config import load_preset
from brainage.model.bundle import copy_bundle, load_bundle
from brainage.tracking import Tracker
from brainage.training.options import TrainOptions
from brainage.workflows.cohorts import DEMO, CohortOptions
from brainage.workflows.compare import compare
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.models import register_bundle
from brainage.workflows.predict import predict
from brainage.workflows.report import ReportOptions, report_scan


def demo(output: Path) -> None:
    """Compare bp and lfnn_l on phantoms, predict a few with the local model, report on one."""
    cohort = CohortOptions(DEMO, cache=output / "cache")
    uri = f"sqlite:///{(output / 'mlflow.db').resolve()}"
    training = TrainOptions(output=output / "comparison", overwrite=True, tracking_uri=uri)
    compare(cohort, load_preset("phantom"), training, methods=("bp", "lfnn_l"))
    model = training.folder / "runs" / "lfnn_l-seed0-fold0"
    scans = sorted(str(path) for path in cohort.cache_dir.glob("phantoms/**/*_T1w.nii.gz"))[:5]
    predict(scans, None, model, output / "predictions.csv", cohort.cache_dir)
    bundle = load_bundle(model)
    copy_bundle(bundle, output / "model", {})
    register_bundle(Tracker(output, uri, on_warning=warn), output / "model", bundle)
    tested = read_predictions(model / "predictions.csv").iloc[0]
    scan = next(cohort.cache_dir.glob(f"phantoms/**/{tested['scan_id']}*_T1w.nii.gz"))
    known = ReportOptions(output / "report", age_years=float(tested["age_years"]))
    report_scan(str(scan), str(output / "model"), known)
    say(
        f"model: {output / 'model'}\npictures: {training.folder}\n"
        f"experiments: brainage mlflow --tracking-uri {uri}"
    )
