"""The tracker against a real MLflow server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from brainage.tracking import (
    COMPARISON_NOTE,
    PENDING_FILE,
    Tracker,
    final_metrics,
    run_name,
    run_tags,
    upload_pending,
)
from tests.servers import run_mlflow
from tools.node.stand import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """URI of a server on a free port; everything it writes is in a temporary folder."""
    folder = tmp_path_factory.mktemp("server")
    with run_mlflow(f"sqlite:///{folder}/mlflow.db", folder) as running:
        yield running.uri


def _runs(uri: str, experiment: str) -> dict:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.info.run_name: run for run in found}


def _compare(tracker: Tracker, bundle: Path) -> None:
    """A comparison as the command logs it: a parent, a child for each method."""
    with tracker.start_run("compare", note=COMPARISON_NOTE) as parent:
        for method in ("bp", "lfnn_l"):
            tags = run_tags(
                method=method,
                network="cnn3d_light",
                blocks=4,
                leader_fraction=0.5,
                seed=0,
                cohort_hash="0123",
                fold=1,
            )
            with tracker.start_run(run_name(method, 0, 1), tags=tags, parent=parent) as run:
                for epoch in range(1, 4):
                    run.log_metrics({"val_mae_years": 10.0 - epoch, "train_loss": 1.0}, epoch)
                run.log_metrics(final_metrics({"mae_years": 5.0}, seconds_to_target=None), 3)
                run.log_artifact_folder(bundle)


def _check(uri: str, experiment: str) -> None:
    runs = _runs(uri, experiment)
    assert set(runs) == {"compare", "bp seed 0 fold 1", "lfnn_l seed 0 fold 1"}
    parent = runs.pop("compare")
    assert parent.data.tags["mlflow.note.content"] == COMPARISON_NOTE
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["fold"] == "1"
        assert run.data.metrics == {
            "val_mae_years": 7.0,
            "train_loss": 1.0,
            "test_mae_years": 5.0,
        }


@pytest.fixture
def bundle(tmp_path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"0" * 1000)
    (folder / "predictions.csv").write_text("scan_id,age_years\nanna,50\n")
    return folder


def test_comparison_arrives_at_a_server(server, tmp_path, bundle):
    warnings: list[str] = []
    _compare(Tracker(tmp_path, server, experiment="direct", on_warning=warnings.append), bundle)
    assert warnings == []
    _check(server, "direct")
    from mlflow.tracking import MlflowClient

    run = _runs(server, "direct")["bp seed 0 fold 1"]
    stored = MlflowClient(server).list_artifacts(run.info.run_id, "bundle")
    assert [(file.path, file.file_size) for file in stored] == [
        ("bundle/weights.safetensors", 1000)
    ]
    assert not (tmp_path / PENDING_FILE).exists()


def test_what_a_dead_server_missed_is_uploaded_later(server, tmp_path, bundle):
    warnings: list[str] = []
    dead = f"http://127.0.0.1:{free_port()}"
    _compare(Tracker(tmp_path, dead, experiment="later", on_warning=warnings.append), bundle)
    assert len(warnings) == 1
    assert "anna" not in (tmp_path / PENDING_FILE).read_text()
    assert upload_pending(tmp_path, server, experiment="later") == 16
    _check(server, "later")
    assert not (tmp_path / PENDING_FILE).exists()
