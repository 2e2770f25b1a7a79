"""`brainage demo`: the whole path on phantoms, in minutes."""

from pathlib import Path

from brainage.model.bundle import copy_bundle, load_bundle
from brainage.tracking import Tracker
from brainage.workflows.cohorts import DEMO, CohortOptions
from brainage.workflows.compare import compare
from brainage.workflows.console import say, warn
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.models import register_bundle
from brainage.workflows.predict import PredictOptions, predict
from brainage.workflows.report import write_report


def demo(output: Path) -> None:
    """Compare bp and lfnn_l on phantoms, predict a few with the local model, report on one."""
    cohort = CohortOptions(DEMO, cache=output / "cache")
    uri = f"sqlite:///{(output / 'mlflow.db').resolve()}"
    comparison = output / "comparison"
    compare(cohort, comparison, config="phantom", overwrite=True, tracking_uri=uri)
    model = comparison / "runs" / "lfnn_l-seed0-fold0"
    scans = sorted(str(path) for path in cohort.cache_dir.glob("phantoms/**/*_T1w.nii.gz"))[:5]
    predict(scans, model, output / "predictions.csv", PredictOptions(cache=cohort.cache_dir))
    bundle = load_bundle(model)
    copy_bundle(bundle, output / "model", {})
    register_bundle(Tracker(output, uri, on_warning=warn), output / "model", bundle)
    tested = read_predictions(model / "predictions.csv").iloc[0]
    scan = next(cohort.cache_dir.glob(f"phantoms/**/{tested['scan_id']}*_T1w.nii.gz"))
    known = float(tested["age_years"])
    write_report(scan, output / "report", output / "model", age_years=known)
    say(
        f"model: {output / 'model'}\npictures: {comparison}\n"
        f"experiments: brainage mlflow --tracking-uri {uri}"
    )
