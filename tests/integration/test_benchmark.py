"""`brainage benchmark` and `brainage fetch` as a person runs them."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.model.bundle import load_bundle
from tests.small import write_mnist


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten classes: a bright row at a height that tells the class."""
    labels = np.arange(120) % 10
    images = np.random.default_rng(0).integers(0, 60, (120, 28, 28))
    images[np.arange(120), 2 * labels] = 255
    write_mnist(tmp_path, images, labels)
    return tmp_path


def run(root: Path, *arguments: str) -> tuple[int, str]:
    base = ["benchmark", "--data-root", str(root), "--tracking-uri", "off", "--device", "cpu"]
    network = ["--network", "mlp", "--set", "network.arguments={widths: [20, 20]}"]
    output = ["--output", str(root / "out"), "--epochs", "2", "--batch-size", "16"]
    result = CliRunner().invoke(app, [*base, *network, *output, *arguments])
    return result.exit_code, result.output


def test_a_benchmark_writes_metrics_history_and_a_bundle(root):
    options = ("--head", "native", "--workers-per-block", "2", "--leader-fraction", "auto")
    code, output = run(root, *options, "--train-limit", "60")
    assert code == 0, output
    assert "block  time  memory  parameters  stages" in output
    assert "reduced: 60 training images" in output.replace("\n", " ")
    metrics = json.loads((root / "out" / "metrics.json").read_text())
    assert 0 <= metrics["test_accuracy_ci_low"] <= metrics["test_accuracy"] <= 1
    assert metrics["parameters"] == metrics["parameters_without_heads"]  # native heads are free
    assert metrics["reduced"] and metrics["n_train"] == 60 and len(metrics["leader_fractions"]) == 2
    assert metrics["seconds_per_epoch"] > 0 and metrics["peak_memory_mb"] > 0
    history = pd.read_csv(root / "out" / "history.csv")
    assert list(history["epoch"]) == [1, 2] and "block_0_val_accuracy" in history
    assert load_bundle(root / "out").config.images.dataset == "mnist"


def test_predictions_name_classes_and_images_and_say_what_was_trained_on(root):
    rng = np.random.default_rng(0)
    for part, name in product(("train", "test"), ("10", "9")):
        (root / "mine" / part / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 90, (32, 32)) + 120 * (name == "9")
            path = root / "mine" / part / name / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    shutil.copy(root / "mine/train/9/0.png", root / "mine/test/9/0.png")
    code, output = run(root, "--dataset", "mine", "--set", "images.validation_fraction=0.2")
    assert code == 0, output
    assert "1 of 16 test images are training images too" in " ".join(output.split())
    table = pd.read_csv(root / "out" / "predictions.csv", dtype={"class_name": str})
    assert all(
        Path(path).parent.name == name
        for path, name in zip(table.path, table.class_name, strict=True)
    )
    assert set(table.class_name[table["class"] == 0]) == {"10"}
    right = (table.class_name == table.predicted_class_name.astype(str)).mean()
    metrics = json.loads((root / "out" / "metrics.json").read_text())
    assert metrics["test_accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("change", ["images.mean=[0.5,0.5]", "images.std=[0.0]"])
def test_a_mean_for_other_channels_and_no_deviation_are_refused(root, change):
    code, output = run(root, "--set", change)
    assert code == 2 and ("images.mean" in output or "images.std" in output)


def test_an_interrupted_benchmark_is_not_overwritten_by_accident(root):
    assert run(root)[0] == 0
    code, output = run(root)
    assert code == 2 and "already holds a run" in output
    assert run(root, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "mnist2"), "unknown data set 'mnist2'"),
        (("--dataset", "cifar10"), "brainage fetch cifar10"),
        (("--method", "magic"), "got 'magic'"),
        (("--leader-fraction", "1.5"), "must be above 0 and at most 1, or auto, got '1.5'"),
        (("--head", "native"), "native needs 32 workers × 10 outputs"),
        (("--blocks", "4"), "4 blocks do not fit a network of 3 stages"),
        (("--method", "greedy"), "greedy trains 3 blocks in turn, 2 epochs are too few"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(root, arguments, message):
    code, output = run(root, *arguments)
    assert code == 2 and message in output and "Traceback" not in output


def test_what_has_no_public_source_cannot_be_fetched(tmp_path):
    result = CliRunner().invoke(app, ["fetch", "imagenet", "--data-root", str(tmp_path)])
    assert result.exit_code == 2 and "cannot be fetched" in result.output
