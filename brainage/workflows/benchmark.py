"""`brainage benchmark`: one method and network on an image data set. `brainage fetch`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from brainage.config import Config
from brainage.files import hold_folder
from brainage.images.decoding import FolderImages
from brainage.images.fetch import fetch_dataset
from brainage.images.sets import load_images, resolve_images
from brainage.images.sources import count_shared, describe_lacking_classes
from brainage.model.build import block_count, describe_cut, parameter_count
from brainage.model.bundle import save_bundle
from brainage.plotting.figures import plot_training_curves
from brainage.tracking import Tracker, run_name, run_tags
from brainage.training.images import TrainedImages, train_images
from brainage.training.options import TrainOptions
from brainage.training.run import schedule_of
from brainage.types import Json
from brainage.workflows.console import default_cache, say, scan_progress, warn
from brainage.workflows.results import write_json, write_table
from brainage.workflows.train import LogEpochs, check_output, options_of_rank, show_progress

if TYPE_CHECKING:
    from brainage.images.sources import ImageData, ImageSource

EXPERIMENT = "brainage-images"


def default_data_root() -> Path:
    """Folder of the image data sets: $BRAINAGE_DATA, or images in the user's cache."""
    given = os.environ.get("BRAINAGE_DATA")
    return Path(given) if given else default_cache() / "images"


def benchmark(config: Config, options: TrainOptions, data_root: Path | None = None) -> Json:
    """Train, test, and write metrics, history, bundle and curves; returns the metrics."""
    options = options_of_rank(options)
    with hold_folder(options.folder):
        return _benchmark(config, options, data_root)


def _benchmark(config: Config, options: TrainOptions, data_root: Path | None) -> Json:
    check_output(options)
    root = data_root or default_data_root()
    config = resolve_images(config, root)
    assert config.images is not None
    data = load_images(config.images.dataset, root, config.images.input_shape)
    if shared := count_shared(data):
        total = len(data.test.labels)
        warn(f"{shared} of {total} test images are training images too: the accuracy is too high.")
    if told := describe_lacking_classes(data):
        warn(told)
    say(describe_blocks(config))
    tracker = Tracker(Path.cwd(), options.tracking_uri, experiment=EXPERIMENT, on_warning=warn)
    metrics = run_benchmark(data, config, options, tracker)
    say(summarise(metrics, options.folder))
    return metrics


def run_benchmark(
    data: "ImageData", config: Config, options: TrainOptions, tracker: Tracker
) -> Json:
    """One run on loaded images with resolved settings: what `benchmark` and the studies share."""
    method, folder = config.learning.method, options.folder
    name = run_name(method, config.seed)
    params = config.model_dump(mode="json")
    with tracker.start_run(name, tags=tags_of(config, data), params=params) as run:
        trained = train_images(
            data, config, options=options, callbacks=[*show_progress(name), LogEpochs(run)]
        )
        metrics = write_trained(folder, trained, data.test)
        run.log_metrics(
            {key: metrics[key] for key in ("test_accuracy", "seconds_per_epoch", "peak_memory_mb")}
        )
        run.log_artifact_folder(folder)
    return metrics


def write_trained(folder: Path, trained: TrainedImages, test: "ImageSource") -> Json:
    """Write bundle, metrics.json, history.csv, predictions.csv and the training curves."""
    metrics = measure(trained)
    history = [record.row() for record in trained.history]
    write_table(pd.DataFrame(history), folder / "history.csv")
    table = pd.DataFrame({"class": trained.labels, "predicted_class": trained.predicted})
    if isinstance(test, FolderImages):  # classes are numbered in the order of their names
        names = np.array(test.names)
        table["class_name"] = names[trained.labels]
        table["predicted_class_name"] = names[trained.predicted]
        table["path"] = [str(path) for path in test.paths]
    write_table(table, folder / "predictions.csv")
    plot_training_curves(history, folder / "training_curves.png")
    write_json(metrics, folder / "metrics.json")
    save_bundle(folder, trained.model, trained.config, {"metrics": metrics})
    return metrics


def measure(trained: TrainedImages) -> Json:
    """Accuracy on the test images, with Wilson's 95 % interval, and what the training took."""
    config, right = trained.config, int((trained.predicted == trained.labels).sum())
    assert config.images is not None
    interval = binomtest(right, len(trained.labels)).proportion_ci(method="wilson")
    blocks = trained.model.blocks
    plain = trained.model.to_plain()
    return {
        "dataset": config.images.dataset,
        "network": config.network.name,
        "method": config.learning.method,
        "seed": config.seed,
        "reduced": config.images.train_limit is not None,
        "test_accuracy": trained.test_accuracy,
        "test_accuracy_ci_low": float(interval.low),
        "test_accuracy_ci_high": float(interval.high),
        "n_train": trained.n_train,
        "n_validation": trained.n_validation,
        "n_test": len(trained.labels),
        "blocks": len(blocks),
        "parameters": parameter_count(trained.model),
        "parameters_without_heads": parameter_count(plain),
        "seconds_per_epoch": trained.seconds_per_epoch,
        "peak_memory_mb": trained.peak_memory_mb,
        "epochs": len(trained.history),
        "kept_epoch": trained.kept_epoch,
        "leader_fractions": leader_fractions(trained),
    }


def leader_fractions(trained: TrainedImages) -> list[float]:
    """δ of each block that adapted it, as training left it."""
    state = trained.model.state_dict()
    return [float(value) for name, value in state.items() if name.endswith("leader_fraction")]


def tags_of(config: Config, data: "ImageData") -> Json:
    """Tags by which runs are grouped in MLflow."""
    assert config.images is not None
    tags: Json = run_tags(
        method=config.learning.method,
        network=config.network.name,
        blocks=block_count(config),
        leader_fraction=config.learning.leader_fraction,
        seed=config.seed,
        cohort_hash=data.train.content_hash(),
        schedule=schedule_of(config.learning),
    )
    return tags | {"dataset": config.images.dataset, "train_limit": config.images.train_limit}


def describe_blocks(config: Config) -> str:
    """Describe the cut as a small table: each block's stages and its share of the network."""
    lines = ["block  time  memory  parameters  stages"]
    for row in describe_cut(config):
        shares = [f"{float(row[name]):.0%}" for name in ("time", "memory", "parameters")]
        lines.append(
            f"{row['block']:>5}  {shares[0]:>4}  {shares[1]:>6}  {shares[2]:>10}  {row['stages']}"
        )
    return "\n".join(lines)


def summarise(metrics: Json, output: Path) -> str:
    """Say in a few lines how good the model is and what it took."""
    reduced = f" (reduced: {metrics['n_train']} training images)" if metrics["reduced"] else ""
    return (
        f"test accuracy {metrics['test_accuracy']:.2%} "
        f"(95 % CI {metrics['test_accuracy_ci_low']:.2%} to {metrics['test_accuracy_ci_high']:.2%},"
        f" n {metrics['n_test']}){reduced}; {metrics['parameters']:,} parameters, "
        f"{metrics['seconds_per_epoch']:.1f} s an epoch, {metrics['peak_memory_mb']:.0f} MB\n"
        f"written to {output}"
    )


def fetch(name: str, data_root: Path | None) -> None:
    """Download a data set and try to read it."""
    root = data_root or default_data_root()
    with scan_progress(f"fetching {name}") as progress:
        folder = fetch_dataset(name, root, on_progress=progress)
    data = load_images(name, root)
    say(f"{len(data.train.labels)} training and {len(data.test.labels)} test images in {folder}")
