from pathlib import Path

import pytest

from brainage.errors import BundleError, TrackingError
from brainage.model.bundle import load_bundle, save_ensemble
from brainage.model.manifest import bundle_files
from brainage.tracking import Tracker, fetch_model, is_model_uri, upload_pending
from brainage.workflows.models import register_bundle, resolve_model
from tests.unit.model.test_bundle import FACTS, make_bundle

CHAMPION = "models:/brainage@champion"
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Folder with a tracker's database in which an ensemble is the champion."""
    folder = tmp_path_factory.mktemp("registry")
    for name in ("a", "b"):
        make_bundle(folder / "model" / name)
    save_ensemble(folder / "model", ["a", "b"], FACTS)
    (folder / "model" / "predictions.csv").write_text("scan_id,age_years\nanna,50\n")
    register_bundle(
        Tracker(folder, f"sqlite:///{folder}/mlflow.db"),
        folder / "model",
        load_bundle(folder / "model"),
    )
    return folder


def test_champion_comes_back_whole_with_its_members_and_nothing_else(store, tmp_path):
    fetched = fetch_model(CHAMPION, tmp_path, f"sqlite:///{store}/mlflow.db")
    assert fetched.version == "brainage version 1"
    original, again = load_bundle(store / "model"), load_bundle(fetched.folder)
    assert again.weights_sha256 == original.weights_sha256 and len(again.members) == 2
    written = {path.name for path in fetched.folder.rglob("*") if path.is_file()}
    assert "predictions.csv" not in written


def test_version_is_downloaded_once_and_the_alias_looked_up_each_time(store, tmp_path):
    uri = f"sqlite:///{store}/mlflow.db"
    first = fetch_model(CHAMPION, tmp_path, uri).folder
    (first / "here").touch()
    assert (fetch_model("models:/brainage/1", tmp_path, uri).folder / "here").exists()


def test_what_was_changed_after_the_download_is_refused(store, tmp_path):
    folder = fetch_model(CHAMPION, tmp_path, f"sqlite:///{store}/mlflow.db").folder
    (folder / "a" / "config.yaml").write_text("seed: 1")
    with pytest.raises(BundleError, match="differs"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/brainage", "NAME@ALIAS"),
        ("models:/../x@y", "NAME@ALIAS"),
        ("models:/brainage@nobody", "could not be had"),
        ("models:/stranger@champion", "could not be had"),
        ("models:/brainage/99", "could not be had"),
    ],
)
def test_unknown_model_gets_one_line(store, tmp_path, uri, message):
    with pytest.raises(TrackingError, match=message):
        fetch_model(uri, tmp_path, f"sqlite:///{store}/mlflow.db")


def test_no_database_is_made_by_asking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="no model is registered here"):
        fetch_model(CHAMPION, tmp_path)
    assert not list(tmp_path.iterdir())


def test_folder_is_a_folder():
    assert resolve_model("models/mine") == (Path("models/mine"), "")
    assert is_model_uri(CHAMPION) and not is_model_uri("models/mine")


def test_registration_waits_for_a_dead_tracker_like_a_run(store, tmp_path):
    make_bundle(tmp_path / "model")
    tracker = Tracker(tmp_path, DEAD, on_warning=lambda _: None)
    register_bundle(tracker, tmp_path / "model", load_bundle(tmp_path / "model"), "late")
    uri = f"sqlite:///{store}/mlflow.db"
    upload_pending(tmp_path, uri)
    folder = fetch_model("models:/late@champion", tmp_path / "cache", uri).folder
    assert load_bundle(folder).weights_sha256 == load_bundle(tmp_path / "model").weights_sha256


def test_files_of_a_bundle_are_those_of_its_manifest(store):
    files = bundle_files(store / "model")
    assert "a/model.safetensors" in files and "manifest.json" in files
    assert not any("predictions" in name for name in files)
