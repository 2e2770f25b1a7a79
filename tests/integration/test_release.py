"""A model made small travels, predicts by default, and checks itself."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.model import released
from brainage.model.bundle import load_bundle
from brainage.workflows.release import selftest_facts
from tests.people import people

RUN = CliRunner()


@pytest.fixture(scope="module")
def trained(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ensemble of two folds of phantoms, on the grid of real scans' shape."""
    folder = tmp_path_factory.mktemp("trained")
    command = ["train", "--cohort", str(phantom_cohort), "--output", str(folder / "model")]
    command += ["--preset", "phantom", "--epochs", "1", "--folds", "2", "--tracking-uri", "off"]
    command += ["--check-leakage", "none", "--baselines", "constant"]
    result = RUN.invoke(app, command)
    assert result.exit_code == 0, result.output
    return folder / "model"


def test_released_model_predicts_when_none_is_named(trained, phantom_cohort, tmp_path, monkeypatch):
    small, volumes = tmp_path / "small", tmp_path / "volumes.csv"
    people(80).assign(verdict=["ok"] * 70 + ["flagged"] * 10).to_csv(volumes, index=False)
    command = ["release", "--model", str(trained), "--output", str(small)]
    released_run = RUN.invoke(app, [*command, "--volumes", str(volumes)])
    assert released_run.exit_code == 0, released_run.output
    assert len(load_bundle(small).members) == 2
    assert load_bundle(small).facts["volume_curves"]["n"] == 70
    monkeypatch.setattr(released, "RELEASED_FOLDER", small)
    checked = RUN.invoke(app, ["selftest"])
    assert checked.exit_code == 0 and "ok: predicts" in checked.output
    scan = next(phantom_cohort.parent.glob("sub-*/anat/*_T1w.nii.gz"))
    output = tmp_path / "predictions.csv"
    predicted = RUN.invoke(app, ["predict", str(scan), "--output", str(output)])
    assert predicted.exit_code == 0, predicted.output
    assert output.exists()


def test_selftest_says_that_a_prediction_has_changed(trained, tmp_path):
    small = tmp_path / "small"
    RUN.invoke(app, ["release", "--model", str(trained), "--output", str(small)])
    bundle = load_bundle(small)
    expected = bundle.facts["selftest"]["predicted_age_years"]
    from brainage.model.bundle import copy_bundle

    changed = selftest_facts(expected + 2)
    copy_bundle(bundle, tmp_path / "changed", {"selftest": changed})
    result = RUN.invoke(app, ["selftest", "--model", str(tmp_path / "changed")])
    assert result.exit_code == 2 and "expected" in result.output


def test_predict_without_any_model_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(released, "RELEASED_FOLDER", tmp_path / "none")
    scan = tmp_path / "scan.nii.gz"
    scan.touch()
    result = RUN.invoke(app, ["predict", str(scan)])
    assert result.exit_code == 2 and "no model came" in result.output


def test_model_that_knows_no_selftest_is_named(trained):
    result = RUN.invoke(app, ["selftest", "--model", str(trained)])
    assert result.exit_code == 2 and "brainage release" in result.output


def test_package_carries_a_whole_model_without_ids():
    folder = released.RELEASED_FOLDER
    if not folder.exists():
        pytest.skip("no model is released yet")
    bundle = load_bundle(folder)
    assert bundle.calibration is not None and bundle.ood is not None
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 20e6
    text = "".join(
        p.read_text() for p in folder.rglob("*") if p.suffix in {".json", ".md", ".yaml"}
    )
    assert "OAS1" not in text and json.loads((folder / "bundle.json").read_text())["selftest"]
