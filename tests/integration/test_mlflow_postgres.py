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
        "MLFLOW_TRACKING_URI": server.uri,
        "BRAINAGE_CACHE": str(folder.parent / "cache"),
    }
    command = [sys.executable, "-m", "brainage.cli.main", *map(str, arguments)]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def brainage(server, folder: Path, *arguments: object) -> str:
    process = start(server, folder, *arguments)
    assert process.wait(timeout=900) == 0, (folder / "log.txt").read_text()[-3000:]
    return (folder / "log.txt").read_text()


def runs(server) -> dict[str, tuple[str, str, dict[str, float]]]:
    """Name, status and metrics of every run, by its id: names may repeat."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("brainage")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return {r.info.run_id: (r.info.run_name, r.info.status, r.data.metrics) for r in found}


def learning(server) -> bool:
    """Whether a run that goes on has logged an epoch."""
    return any(
        status == "RUNNING" and "val_mae_years" in metrics
        for _, status, metrics in runs(server).values()
    )


def wait_for(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_comparison_survives_the_servers_death_and_training_does_too(
    server, workspace, phantom_cohort
):
    folder = workspace / "show"
    common = ("--cohort", phantom_cohort, "--preset", "phantom")
    brainage(server, folder, "compare", *common, "--epochs", 2, "--output", "comparison")
    before = runs(server)
    assert {status for _, status, _ in before.values()} == {"FINISHED"}
    named = {name: metrics for name, _, metrics in before.values()}
    assert {"bp seed 0 fold 0", "lfnn_l seed 0 fold 0"} <= set(named)
    overview = named["compare bp, lfnn_l"]
    for metric in ("test_mae_years", "seconds_per_epoch", "peak_memory_mb", "val_mae_years"):
        assert {f"{metric}/bp", f"{metric}/lfnn_l"} <= set(overview)

    training = start(server, folder, "train", *common, "--epochs", 60, "--output", "long")
    wait_for(lambda: learning(server))
    server.stop(signal.SIGKILL)
    assert training.wait(timeout=900) == 0, (folder / "log.txt").read_text()[-3000:]
    assert (folder / "long" / "manifest.json").exists()
    assert (folder / PENDING_FILE).exists()

    server.start()
    after = runs(server)
    assert {key: after[key] for key in before} == before
    assert "events sent" in brainage(server, folder, "mlflow", "--upload")
    assert not (folder / PENDING_FILE).exists()
    complete = runs(server)
    assert {status for _, status, _ in complete.values()} == {"FINISHED"}
    (late,) = complete.keys() - before.keys()
    assert "test_mae_years" in complete[late][2]


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
