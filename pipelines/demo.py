"""`brainage demo`: the whole path on phantoms, in minutes."""

from pathlib import Path

from brainage.config import load_preset
from pipelines.cohorts import DEMO, CohortOptions
from pipelines.compare import CompareOptions, compare
from pipelines.console import say
from pipelines.predict import predict
from pipelines.train import TrainOptions


def demo(output: Path) -> None:
    """Compare bp and lfnn_l on phantoms and predict a few with the local model."""
    cohort = CohortOptions(DEMO, cache=output / "cache")
    uri = f"sqlite:///{(output / 'mlflow.db').resolve()}"
    training = TrainOptions(output / "comparison", overwrite=True, tracking_uri=uri)
    compare(cohort, load_preset("phantom"), CompareOptions(("bp", "lfnn_l"), 1, training))
    model = training.output / "runs" / "lfnn_l-seed0-fold0"
    scans = sorted(str(path) for path in cohort.cache_dir.glob("phantoms/**/*_T1w.nii.gz"))[:5]
    predict(scans, None, model, output / "predictions.csv", cohort.cache_dir)
    say(f"model: {model}\npictures: {training.output}\nMLflow: mlflow ui --backend-store-uri {uri}")
