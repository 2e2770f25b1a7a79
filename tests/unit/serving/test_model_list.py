"""Which models the page offers, without a server."""

import pytest

import brainage.serving.model_list as module
from brainage.errors import TrackingError
from brainage.serving.model_list import CHAMPION_URI, Champion, find_models
from brainage.tracking import FetchedModel


@pytest.fixture
def champion(tmp_path, monkeypatch):
    made = Champion(tmp_path)
    monkeypatch.setattr(module, "get_champion", lambda: made)
    monkeypatch.setenv(module.MODELS_VARIABLE, str(tmp_path / "models"))
    return made


def make_bundle(folder):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_champion_comes_first_and_folders_follow(champion, tmp_path, monkeypatch):
    make_bundle(tmp_path / "models" / "mine")
    fetched = FetchedModel(make_bundle(tmp_path / "fetched"), "brainage version 3")
    monkeypatch.setattr(module, "fetch_model", lambda uri, cache: fetched)
    champion.look()
    names = [model.name for model in find_models()]
    assert names[0] == "brainage version 3 (champion)"
    assert names[-1] == "mine"


def test_tracker_that_is_away_takes_no_champion_away(champion, tmp_path, monkeypatch):
    fetched = FetchedModel(make_bundle(tmp_path / "fetched"), "brainage version 3")
    monkeypatch.setattr(module, "fetch_model", lambda uri, cache: fetched)
    champion.look()

    def fail(uri, cache):
        raise TrackingError(CHAMPION_URI, "could not be had.")

    monkeypatch.setattr(module, "fetch_model", fail)
    champion.look()
    assert champion.model is not None


def test_page_without_a_tracker_has_no_champion(champion, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    champion.look()
    assert champion.model is None
