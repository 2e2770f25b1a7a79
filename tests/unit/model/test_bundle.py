import json

import pytest
import torch

from brainage.config import with_changes
from brainage.errors import BundleError
from brainage.model.build import build_model
from brainage.model.bundle import copy_bundle, load_bundle, save_bundle
from brainage.model.manifest import BUNDLE_FILES
from tests.small import NETWORKS, make_config, random_batch

FACTS = {
    "cohort": {"synthetic": True, "n_train": 3, "train_age_range_years": [20.0, 80.0]},
    "metrics": {"mae_years": 4.2, "mae_ci_low": 3.0, "mae_ci_high": 5.5, "n": 9},
}


def make_bundle(folder, network="cnn3d_light"):
    config = make_config(network)
    model = build_model(config).eval()
    save_bundle(folder, model, config, FACTS)
    return model, config


@pytest.mark.parametrize("network", NETWORKS)
def test_loaded_bundle_predicts_the_same(network, tmp_path):
    model, config = make_bundle(tmp_path, network)
    volumes, _ = random_batch(config)
    bundle = load_bundle(tmp_path)
    with torch.no_grad():
        assert torch.equal(bundle.model(volumes), model(volumes))
    assert bundle.config == config


@pytest.mark.parametrize(("average", "has_heads"), [("none", False), ("all", True)])
def test_a_released_bundle_leaves_out_heads_that_nothing_reads(average, has_heads, tmp_path):
    config = with_changes(make_config("cnn3d_light"), {"inference.average_heads": average})
    model = build_model(config).half().float().eval()
    save_bundle(tmp_path, model, config, FACTS, half=True)
    volumes, _ = random_batch(config)
    loaded = load_bundle(tmp_path).model
    with torch.no_grad():
        assert torch.equal(loaded(volumes), model(volumes))
    assert (loaded[0].head is not None) == has_heads


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_one_changed_byte_is_refused(name, tmp_path):
    make_bundle(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match="differs from the manifest"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_missing_file_is_refused(name, tmp_path):
    make_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(tmp_path)


def test_unfinished_bundle_is_refused(tmp_path):
    make_bundle(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(BundleError, match="no finished model"):
        load_bundle(tmp_path)


def test_newer_version_is_refused_with_its_name(tmp_path):
    make_bundle(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bundle_version": "99"}))
    with pytest.raises(BundleError, match="'99'"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"bundle_version": "1"}', '{"sha256": 3}', "\x00"])
def test_broken_manifest_is_refused(text, tmp_path):
    make_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        load_bundle(tmp_path)


def test_card_tells_error_origin_and_limits(tmp_path):
    make_bundle(tmp_path)
    card = (tmp_path / "card.md").read_text()
    for part in ("Research use only", "synthetic phantoms", "4.20", "3.00 to 5.50", "20 to 80"):
        assert part in card


def test_bundle_holds_versions_and_method(tmp_path):
    make_bundle(tmp_path)
    facts = load_bundle(tmp_path).facts
    assert facts["method"] == "lfnn_l" and facts["blocks"] == 3
    assert facts["packages"]["torch"].startswith("2.13")


def test_half_precision_takes_half_the_room_and_predicts_almost_the_same(tmp_path):
    model, config = make_bundle(tmp_path / "full")
    copy_bundle(load_bundle(tmp_path / "full"), tmp_path / "half", {}, half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    volumes, _ = random_batch(config)
    loaded = load_bundle(tmp_path / "half").model
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    with torch.no_grad():
        torch.testing.assert_close(loaded(volumes), model(volumes), atol=1e-2, rtol=1e-2)


def test_a_finished_bundle_that_is_written_again_is_at_no_moment_gone(tmp_path):
    make_bundle(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    make_bundle(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    (tmp_path / "card.md").write_text("changed")
    make_bundle(tmp_path)
    load_bundle(tmp_path)


def test_a_manifest_with_an_entry_of_another_kind_is_refused(tmp_path):
    make_bundle(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace("{", '{"new": 1,', 1))
    with pytest.raises(BundleError, match="'new'"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(("linear", "shown"), [(3.0, True), (6.0, False)])
def test_the_card_says_that_a_model_does_not_beat_a_baseline(linear, shown, tmp_path):
    baselines = {"constant": {"mae_years": 9.0}, "linear": {"mae_years": linear}}
    facts = FACTS | {"metrics": FACTS["metrics"] | {"baselines": baselines}}
    config = make_config("cnn3d_light")
    save_bundle(tmp_path, build_model(config).eval(), config, facts)
    assert ("not beat the linear baseline" in (tmp_path / "card.md").read_text()) == shown


def test_the_median_training_age_is_told_by_the_facts_or_by_the_reference(tmp_path):
    config = make_config("cnn3d_light")
    reference = {"source": "held_out", "cells": [[40, 0, 3], [60, 0, 1]]}
    medians = []
    for name, facts in (
        ("kept", {"cohort": FACTS["cohort"] | {"train_median_age_years": 51.0}}),
        ("old", {"reference": reference}),
        ("unknown", {}),
    ):
        save_bundle(tmp_path / name, build_model(config).eval(), config, FACTS | facts)
        medians.append(load_bundle(tmp_path / name).train_median_age_years)
    assert medians[0] == 51.0 and 40 <= medians[1] <= 45 and medians[2] is None
