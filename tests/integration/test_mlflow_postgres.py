"""Comparison and model registry on an MLflow server with PostgreSQL, in real processes."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brainage.tracking import PENDING_FILE
from tests.servers import run_mlflow, run_postgres

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with run_postgres() as backend, run_mlflow(backend, folder) as running:
        yield running


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def start(server, folder: Path, *arguments: object) -> subprocess.Popen:
    """The command in a process of its own, with the server as its tracker."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": server.uri,
        "BRAINAGE_CACHE": str(folder.parent / "cache"),
    }
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def brainage(server, folder: Path, *arguments: object) -> str:
    process = start(server, folder, *arguments)
    assert process.wait(timeout=900) == 0, (folder / "log.txt").read_text()[-3000:]
    return (folder / "log.txt").read_text()


def runs(server) -> dict[str, tuple[str, dict[str, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("brainage")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.info.run_name: (run.info.status, run.data.metrics) for run in found}


def finished(server) -> dict[str, dict[str, float]]:
    return {name: values for name, (status, values) in runs(server).items() if status == "FINISHED"}


def wait_for(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


def test_comparison_survives_the_servers_death_and_training_does_too(
    server, workspace, phantom_cohort
):
    folder = workspace / "show"
    common = ("--cohort", phantom_cohort, "--preset", "phantom")
    brainage(server, folder, "compare", *common, "--epochs", 2, "--output", "comparison")
    before = finished(server)
    assert {"bp seed 0 fold 0", "lfnn_l seed 0 fold 0"} <= set(before)
    overview = before["compare bp, lfnn_l"]
    for metric in ("test_mae_years", "seconds_per_epoch", "peak_memory_mb", "val_mae_years"):
        assert {f"{metric}/bp", f"{metric}/lfnn_l"} <= set(overview)

    training = start(server, folder, "train", *common, "--epochs", 40, "--output", "long")
    wait_for(lambda: "val_mae_years" in runs(server).get("lfnn_l seed 0 fold 0", ("", {}))[1])
    wait_for(lambda: any(status == "RUNNING" for status, _ in runs(server).values()))
    server.stop(signal.SIGKILL)
    assert training.wait(timeout=900) == 0, (folder / "log.txt").read_text()[-3000:]
    assert (folder / "long" / "manifest.json").exists()
    assert (folder / PENDING_FILE).exists()

    server.start()
    after = finished(server)
    assert {name: after[name] for name in before} == before
    assert "events sent" in brainage(server, folder, "mlflow", "--upload")
    assert not (folder / PENDING_FILE).exists()
    statuses = [status for status, _ in runs(server).values()]
    assert set(statuses) == {"FINISHED"}


def test_champion_predicts_as_its_folder_does(server, workspace, phantom_cohort):
    folder = workspace / "champion"
    common = ("--cohort", phantom_cohort, "--preset", "phantom", "--epochs", 1)
    for seed in (0, 1):
        brainage(server, folder, "train", *common, "--seed", seed, "--output", f"model-{seed}")
        brainage(server, folder, "register", "--model", f"model-{seed}")
    scan = next(phantom_cohort.parent.glob("**/*_T1w.nii.gz"))
    predicted = []
    for name in ("model-0", "model-1", "models:/brainage@champion", "models:/brainage/1"):
        brainage(server, folder, "predict", scan, "--model", name, "--output", "p.csv")
        with (folder / "p.csv").open() as file:
            predicted.append(next(csv.DictReader(file))["predicted_age_years"])
    assert predicted[0] != predicted[1]
    assert predicted[2:] == [predicted[1], predicted[0]]
