"""Whole commands on two processes, started by us and by torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from brainage.cli.main import app
from tests.small import write_mnist

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    labels = np.tile(np.arange(10), 12)
    images = np.random.default_rng(0).integers(0, 60, (120, 28, 28))
    images[np.arange(120), 2 * labels] = 255
    write_mnist(tmp_path, images, labels)
    return tmp_path


def command(root, name, *arguments):
    base = ["benchmark", "--data-root", str(root), "--tracking-uri", "off", "--device", "cpu"]
    network = ["--network", "mlp", "--set", "network.arguments={widths: [20, 20]}"]
    output = ["--output", str(root / name), "--epochs", "2", "--batch-size", "16"]
    return [*base, *network, *output, *arguments]


def test_a_benchmark_on_two_processes_writes_what_one_process_writes(root):
    for name, more in (("one", ()), ("two", ("--processes", "2"))):
        result = CliRunner().invoke(app, command(root, name, *more))
        assert result.exit_code == 0, result.output
    # Started like this, each process is a rank from the first line on.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--local-addr", "127.0.0.1", "--standalone", "-m", "brainage.cli.main"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    arguments = [*launch, *command(root, "run", "--processes", "2")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written to") == 1
    for name in ("two", "run"):
        for file in ("model.safetensors", "predictions.csv"):
            assert (root / name / file).read_bytes() == (root / "one" / file).read_bytes(), file
        columns = ["epoch", "train_loss", "val_loss", "val_accuracy"]
        one, other = (pd.read_csv(root / n / "history.csv")[columns] for n in ("one", name))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_training_on_phantoms_gives_the_same_bundle(phantom_cohort, tmp_path):
    for name, more in (("one", ()), ("two", ("--processes", "2"))):
        arguments = ["train", "--cohort", str(phantom_cohort), "--preset", "phantom"]
        arguments += ["--epochs", "2", "--output", str(tmp_path / name), "--cache", str(tmp_path)]
        arguments += ["--baselines", "constant", "--check-leakage", "none", "--device", "cpu"]
        result = CliRunner().invoke(app, [*arguments, "--tracking-uri", "off", *more])
        assert result.exit_code == 0, result.output
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_bp_on_two_processes_is_refused_in_one_line(root):
    result = CliRunner().invoke(app, command(root, "bad", "--method", "bp", "--processes", "2"))
    assert result.exit_code == 2
    assert "bp cannot run on several processes" in result.output.replace("\n", " ")
