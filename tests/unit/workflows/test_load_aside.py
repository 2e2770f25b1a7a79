"""Scans are prepared while their model is loaded, by the settings that it turns out to have."""

from pathlib import Path

import pytest

from brainage.config import load_preset
from brainage.errors import BundleError
from brainage.inference.predict import predict_when_loaded, scans_table
from brainage.model.bundle import save_ensemble
from brainage.workflows.models import load_aside
from tests.unit.model.test_bundle import FACTS, make_bundle


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "model" / "a")
    save_ensemble(tmp_path / "model", ["a"], FACTS)
    return tmp_path / "model"


def test_settings_are_those_of_the_model_that_comes(ensemble: Path) -> None:
    with load_aside(ensemble) as (config, load):
        model = load()
    assert config == model.bundle.config and load() is model
    with load_aside(model) as (again, given):
        assert again == config and given() is model


def test_what_is_no_model_is_refused_at_once_and_a_damaged_one_when_it_is_asked_for(
    ensemble: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError), load_aside(tmp_path / "none"):
        pytest.fail("there is no model")
    with (ensemble / "a" / "model.safetensors").open("ab") as file:
        file.write(b"0")
    with load_aside(ensemble) as (_, load), pytest.raises(BundleError):
        load()


def test_the_model_is_asked_for_when_scans_are_prepared(ensemble: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def progress(done: int, total: int) -> None:
        told.append("prepared")

    with load_aside(ensemble) as (config, load):
        table, _ = scans_table([str(tmp_path / "none.nii")])

        def ask():  # type: ignore[no-untyped-def]
            told.append("model")
            return load().bundle

        found = predict_when_loaded(ask, config, table, tmp_path, on_progress=progress)
    assert told == ["prepared", "model"]
    assert found.failed == found.entries and len(found.entries) == 1


def test_a_model_of_images_is_refused_before_any_scan_is_prepared(tmp_path: Path) -> None:
    def ask():  # type: ignore[no-untyped-def]
        pytest.fail("the settings tell what it is")

    def progress(done: int, total: int) -> None:
        pytest.fail("a scan was prepared")

    table, _ = scans_table([str(tmp_path / "none.nii")])
    config = load_preset("vgg8b", "images")
    with pytest.raises(BundleError, match="cifar10"):
        predict_when_loaded(ask, config, table, tmp_path, on_progress=progress)
