"""Bundles and ensembles on disk: whole, unchanged, or refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from brainage.config import with_changes
from brainage.errors import BundleError
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.ood import fit_ood
from brainage.inference.predict import predict_columns
from brainage.model.build import build_model
from brainage.model.bundle import copy_bundle, load_bundle, save_bundle, save_ensemble
from tests.small import make_config

CONFIG = make_config("cnn3d_light")
ARRAYS = np.random.default_rng(0).normal(0, 1, (6, 16, 16, 16)).astype(np.float16)
CALIBRATION = ConformalInterval("absolute").fit(np.zeros(19), np.arange(1.0, 20.0))


def write_member(folder: Path, seed: int, **changes: object) -> None:
    config = with_changes(CONFIG, {"seed": seed, **changes})
    save_bundle(folder, build_model(config), config, {})


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    for seed in range(3):
        write_member(tmp_path / f"fold-{seed}", seed)
    facts = {"calibration": CALIBRATION.to_json()}
    people = [str(n) for n in range(len(ARRAYS))]
    save_ensemble(tmp_path, [f"fold-{n}" for n in range(3)], facts, fit_ood(ARRAYS, people))
    return tmp_path


def test_ensemble_predicts_the_mean_of_its_members(ensemble):
    members = [load_bundle(ensemble / f"fold-{n}").predict(ARRAYS) for n in range(3)]
    mean = np.mean([member.predicted_age_years for member in members], axis=0)
    whole = load_bundle(ensemble)
    np.testing.assert_allclose(whole.predict(ARRAYS).predicted_age_years, mean)
    assert len(whole.networks) == 3 and whole.facts["members"] == 3


@pytest.mark.parametrize("name", ["model.safetensors", "bundle.json", "manifest.json"])
def test_altered_member_is_refused(ensemble, name):
    path = ensemble / "fold-1" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"fold-1.*(differs|changed)"):
        load_bundle(ensemble)


def test_exchanged_member_is_refused_though_whole_in_itself(ensemble):
    write_member(ensemble / "fold-1", seed=9)
    load_bundle(ensemble / "fold-1")
    with pytest.raises(BundleError, match="differs from the ensemble's manifest"):
        load_bundle(ensemble)


def test_altered_ood_file_is_refused(ensemble):
    (ensemble / "ood.safetensors").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"ood\.safetensors.*differs"):
        load_bundle(ensemble)


def test_member_outside_the_ensemble_is_refused(ensemble):
    path = ensemble / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["members"] = {"../elsewhere": "0"}
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="outside itself"):
        load_bundle(ensemble)


def test_members_that_prepare_scans_differently_are_refused(tmp_path):
    write_member(tmp_path / "a", 0)
    write_member(tmp_path / "b", 1, **{"preprocessing.spacing_mm": 11.0})
    with pytest.raises(BundleError, match="differently"):
        save_ensemble(tmp_path, ["a", "b"], {})


def test_offset_moves_predictions_and_intervals(ensemble, tmp_path):
    bundle = load_bundle(ensemble)
    moved = CALIBRATION.to_json() | {"offset_years": 5.0}
    copy_bundle(bundle, tmp_path / "copy", {"calibration": moved})
    copied = load_bundle(tmp_path / "copy")
    before, after = (predict_columns(item, ARRAYS) for item in (bundle, copied))
    for name in ("predicted_age_years", "interval_low_years", "interval_high_years"):
        np.testing.assert_allclose(after[name], before[name] - 5.0)
    np.testing.assert_allclose(after["ood_percentile"], before["ood_percentile"])
    assert "+5.00 years" in (tmp_path / "copy" / "card.md").read_text()


def test_bundle_without_calibration_gives_empty_intervals(tmp_path):
    write_member(tmp_path, 0)
    columns = predict_columns(load_bundle(tmp_path), ARRAYS)
    assert np.isnan(columns["interval_low_years"]).all()
    assert np.isnan(columns["ood_percentile"]).all()
    assert "not calibrated" in (tmp_path / "card.md").read_text()


def test_level_decides_the_width(ensemble):
    bundle = load_bundle(ensemble)
    widths = []
    for level in (0.5, 0.9):
        columns = predict_columns(bundle, ARRAYS, level)
        widths.append(columns["interval_high_years"] - columns["interval_low_years"])
    np.testing.assert_allclose(widths[0], 20.0)
    np.testing.assert_allclose(widths[1], 36.0)


def test_new_scans_have_the_intervals_of_sites_left_out(ensemble, tmp_path):
    bundle = load_bundle(ensemble)
    wide = ConformalInterval("absolute").fit(np.zeros(60), np.full(60, 40.0))
    copy_bundle(bundle, tmp_path / "copy", {"left_out_calibration": wide.to_json()})
    copied = load_bundle(tmp_path / "copy")
    usual = predict_columns(bundle, ARRAYS)
    columns = predict_columns(copied, ARRAYS)
    for found, years in ((usual, 36.0), (columns, 80.0)):
        width = found["interval_high_years"] - found["interval_low_years"]
        np.testing.assert_allclose(width, years)
    np.testing.assert_array_equal(columns["predicted_age_years"], usual["predicted_age_years"])
