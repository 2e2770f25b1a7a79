"""The tracker on a database, without one, and when it fails."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brainage.errors import TrackingError
from brainage.tracking import (
    FINAL_METRICS,
    PENDING_FILE,
    Run,
    Tracker,
    final_metrics,
    resolve_uri,
    run_name,
    run_tags,
    upload_pending,
)
from brainage.tracking.backend import Backend

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_tracking_variable(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One database for all tests: making it takes seconds."""
    return tmp_path_factory.mktemp("with space")


@pytest.fixture
def warnings_seen() -> list[str]:
    return []


@pytest.fixture
def tracker(folder, warnings_seen) -> Tracker:
    return Tracker(folder, on_warning=warnings_seen.append)


@pytest.fixture(scope="module")
def client(folder):
    """MLflow's own client, to look at what arrived."""
    Backend(resolve_uri(None, folder), "brainage")
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def stored(client):
    """Look a run up by its name, which each test chooses for itself."""

    def find(name: str):
        experiment = client.get_experiment_by_name("brainage")
        return client.search_runs(
            [experiment.experiment_id], filter_string=f"attributes.run_name = '{name}'"
        )[0]

    return find


def pending(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / PENDING_FILE).read_text().splitlines()]


def test_import_does_not_load_mlflow():
    code = "import sys, brainage.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_child_run_holds_metrics_params_tags_and_its_parent(tracker, stored, client):
    with tracker.start_run("compare a", note="Open *Charts*.") as parent:
        tags = run_tags(
            method="lfnn_l",
            network="cnn3d_light",
            blocks=4,
            leader_fraction=0.5,
            seed=0,
            cohort_hash="abc",
        )
        params = {"training": {"epochs": 3}, "cuts": None}
        with tracker.start_run("child a", tags=tags, params=params, parent=parent) as run:
            run.log_metrics({"val_mae_years": 9.0, "train_loss": 1.0}, step=1)
            run.log_metrics({"val_mae_years": 8.0, "test_r2": None, "val_loss": float("nan")}, 2)
    child, above = stored("child a"), stored("compare a")
    assert child.data.tags["mlflow.parentRunId"] == above.info.run_id
    assert child.data.tags.items() >= tags.items()
    assert above.data.tags["mlflow.note.content"] == "Open *Charts*."
    assert child.data.params == {"training.epochs": "3"}
    assert child.data.metrics == {"val_mae_years": 8.0, "train_loss": 1.0}
    history = client.get_metric_history(child.info.run_id, "val_mae_years")
    assert [(point.step, point.value) for point in history] == [(1, 9.0), (2, 8.0)]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_run_ends_with_the_status_of_what_happened(tracker, stored, error, status):
    def work() -> None:
        with tracker.start_run(f"status {status}"):
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert stored(f"status {status}").info.status == status


def test_bundle_is_stored_without_tables_and_images(tracker, stored, client, tmp_path):
    for name in ("config.yaml", "weights.safetensors", "predictions.csv", "scan.nii.gz", "age.png"):
        (tmp_path / name).write_text("x")
    with tracker.start_run("artifacts") as run:
        run.log_artifact_folder(tmp_path)
        run.log_figure(tmp_path / "age.png")
    run_id = stored("artifacts").info.run_id
    assert {file.path for file in client.list_artifacts(run_id, "bundle")} == {
        "bundle/config.yaml",
        "bundle/weights.safetensors",
    }
    assert [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/age.png"]


def test_paths_in_values_are_withheld(tracker, stored):
    tags, params = {"source": "C:\\scans\\anna", "method": "bp"}, {"cohort": Path("/anna/t1.nii")}
    with tracker.start_run("private", tags=tags, params=params):
        pass
    data = stored("private").data
    assert data.params["cohort"] == data.tags["source"] == "(path withheld)"
    assert data.tags["method"] == "bp"
    assert "anna" not in json.dumps(data.to_dictionary())


def test_refused_event_is_left_out_and_the_next_one_arrives(tracker, stored, warnings_seen):
    with tracker.start_run("refused") as run:
        run.log_metrics({"what?": 1.0})
        run.log_metrics({"val_loss": 2.0})
    assert stored("refused").data.metrics == {"val_loss": 2.0}
    assert len(warnings_seen) == 1
    assert not (tracker.folder / PENDING_FILE).exists()


def test_more_parameters_than_one_request_takes_all_arrive(tracker, stored):
    with tracker.start_run("many", params={f"p{index}": index for index in range(205)}):
        pass
    assert len(stored("many").data.params) == 205


def test_dead_server_warns_once_and_costs_no_time(tmp_path, warnings_seen):
    start = time.monotonic()
    tracker = Tracker(tmp_path, DEAD, on_warning=warnings_seen.append)
    with tracker.start_run("lost") as run:
        for epoch in range(50):
            run.log_metrics({"val_loss": 1.0}, epoch)
    assert time.monotonic() - start < 5.0
    assert len(warnings_seen) == 1
    assert warnings_seen[0].startswith("MLflow at http://127.0.0.1:9 failed")
    events = [event["event"] for event in pending(tmp_path)]
    assert events == ["start", *["metrics"] * 50, "end"]


def test_password_of_a_server_is_not_shown(tmp_path, warnings_seen):
    tracker = Tracker(tmp_path, "http://me:secret@127.0.0.1:9", on_warning=warnings_seen.append)
    with tracker.start_run("lost"):
        pass
    assert warnings_seen
    assert "secret" not in warnings_seen[0] + (tmp_path / PENDING_FILE).read_text()


def test_failing_disk_does_not_stop_the_run(tmp_path, warnings_seen):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with Tracker(blocked, DEAD, on_warning=warnings_seen.append).start_run("lost"):
        pass
    assert any("cannot be written" in warning for warning in warnings_seen)


def test_tracker_that_fails_halfway_is_completed_by_upload(folder, stored, tracker, monkeypatch):
    with tracker.start_run("halfway") as run:
        run.log_metrics({"val_loss": 2.0}, 1)
        with monkeypatch.context() as patch:
            patch.setattr(Backend, "apply", _fail)
            run.log_metrics({"val_loss": 1.0}, 2)
        with tracker.start_run("halfway child", parent=run):
            pass
    assert stored("halfway").data.metrics == {"val_loss": 2.0}
    assert upload_pending(folder) == 4
    assert stored("halfway").data.metrics == {"val_loss": 1.0}
    assert stored("halfway").info.status == "FINISHED"
    child = stored("halfway child").data.tags["mlflow.parentRunId"]
    assert child == stored("halfway").info.run_id
    assert not (folder / PENDING_FILE).exists()


def test_upload_that_fails_keeps_what_is_left(folder, stored, tmp_path, monkeypatch):
    tracker = Tracker(tmp_path, DEAD, on_warning=lambda _: None)
    with tracker.start_run("twice") as run:
        run.log_metrics({"val_loss": 1.0})
    target = f"sqlite:///{folder}/mlflow.db"
    original = Backend.apply

    def fail_on_metrics(self, event):
        return _fail() if event["event"] == "metrics" else original(self, event)

    with monkeypatch.context() as patch:
        patch.setattr(Backend, "apply", fail_on_metrics)
        with pytest.raises(TrackingError, match="after 1 of 3 events"):
            upload_pending(tmp_path, target)
    assert [event["event"] for event in pending(tmp_path)] == ["metrics", "end"]
    assert upload_pending(tmp_path, target) == 2
    assert stored("twice").data.metrics == {"val_loss": 1.0}


def test_half_a_line_of_a_killed_process_is_skipped(folder, stored, tmp_path, warnings_seen):
    with Tracker(tmp_path, DEAD, on_warning=lambda _: None).start_run("torn"):
        pass
    with (tmp_path / PENDING_FILE).open("a") as file:
        file.write('{"event": "met')
    assert upload_pending(
        tmp_path, f"sqlite:///{folder}/mlflow.db", on_warning=warnings_seen.append
    )
    assert stored("torn").info.status == "FINISHED"
    assert "line 3" in warnings_seen[0]


def test_nothing_pending_uploads_nothing(tmp_path):
    assert upload_pending(tmp_path, DEAD) == 0


def test_off_does_nothing(tmp_path):
    with Tracker(tmp_path, "off").start_run("x") as run:
        run.log_metrics({"val_loss": 1.0})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "ftp://host", "http://"])
def test_other_kinds_of_uri_are_refused_before_training(tmp_path, uri):
    with pytest.raises(TrackingError, match="expected a server or a database"):
        Tracker(tmp_path, uri)


def test_uri_comes_from_option_then_variable_then_folder(tmp_path, monkeypatch):
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    assert resolve_uri(None, tmp_path) == DEAD
    assert resolve_uri("http://other:1", tmp_path) == "http://other:1"


def test_telemetry_is_off_inside_and_the_environment_unchanged_outside(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "17")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    seen = {}

    def look(self, event):
        seen.update(os.environ)
        return []

    before = dict(os.environ)
    monkeypatch.setattr(Backend, "_apply", look)
    with tracker.start_run("x"):
        pass
    assert seen["MLFLOW_DISABLE_TELEMETRY"] == seen["DO_NOT_TRACK"] == "true"
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "17"
    assert dict(os.environ) == before


def test_warnings_go_to_the_log_by_default(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, DEAD).start_run("x"):
        pass
    assert "failed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("lfnn_l", 0, 1), "lfnn_l seed 0 fold 1"),
        (("bp", 2, None, "end_to_end"), "bp seed 2"),
        (("lfnn_l", 0, None, "progressive"), "lfnn_l progressive seed 0"),
    ],
)
def test_run_names_read_well(arguments, name):
    assert run_name(*arguments) == name


def test_final_metrics_have_their_agreed_names():
    test = {"mae_years": 5.0, "rmse_years": 6.0, "r2": None, "n": 3}
    named = final_metrics(test, seconds_per_epoch=2.0, peak_memory_mb=9.0)
    assert tuple(named) == FINAL_METRICS
    assert list(named.values()) == [5.0, 6.0, None, 2.0, None, 9.0]


def test_run_of_no_tracker_is_still_a_run(tmp_path):
    with Tracker(tmp_path, "none").start_run("x") as run:
        assert isinstance(run, Run)


def _fail(*_) -> list[str]:
    raise ConnectionError("the cable is out")


def test_half_a_line_of_a_killed_run_spoils_no_other(tmp_path):
    (tmp_path / PENDING_FILE).write_text('{"event": "start", "run"')
    with Tracker(tmp_path, DEAD, on_warning=lambda _: None).start_run("next"):
        pass
    lines = (tmp_path / PENDING_FILE).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines[1:]] == ["start", "end"]


@pytest.mark.slow
def test_three_that_make_one_database_at_once_all_find_it_whole(tmp_path):
    uri = resolve_uri(None, tmp_path)
    code = "import sys; from brainage.tracking.backend import Backend; Backend(sys.argv[1], 'x')"
    started = [subprocess.Popen([sys.executable, "-c", code, uri]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]


@pytest.mark.parametrize("name", ["mlflow.store.db.utils", "alembic.runtime.migration"])
def test_progress_messages_stay_off_the_terminal_though_mlflow_was_there_before(name, tracker):
    import mlflow  # noqa: F401

    for root in ("mlflow", "alembic"):
        logging.getLogger(root).setLevel(logging.INFO)
    with tracker.start_run("quiet"):
        pass
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
