"""Every YAML that ships is loaded; wrong settings are refused in one line."""

import pytest

from brainage.config import (
    build_config,
    config_folder,
    dump_config,
    load_config,
    load_preset,
    preset_names,
    with_changes,
)
from brainage.errors import ConfigError

FILES = sorted(config_folder().glob("[bi]*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_preset_loads_and_survives_writing(path, tmp_path):
    config = load_config(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config))
    assert load_config(copy) == config


def test_settings_that_came_later_do_not_change_the_text_of_earlier_ones():
    text = dump_config(build_config({"network": {"name": "sfcn"}}, "test"))
    for name in ("min_learning_rate", "iterations", "label_smoothing"):
        assert f"\n  {name}:" not in text
    images = {"images": {"dataset": "mnist"}, "target": {"kind": "classes"}}
    text = dump_config(build_config({"network": {"name": "mlp"}, **images}, "test"))
    assert not any(name in text for name in ("crop_size", "min_crop_area", "elastic"))


def test_followers_of_earlier_settings_keep_their_sum():
    learning = {"follower_space": "output"}
    config = build_config({"network": {"name": "sfcn"}, "learning": learning}, "test")
    assert config.learning.follower_space == "output"
    assert build_config({"network": {"name": "sfcn"}}, "test").learning.follower_space == (
        "output_mean"
    )


def test_the_networks_of_the_project_have_presets():
    networks = {load_preset(name).network.name for name in preset_names()}
    assert networks == {"cnn3d_light", "sfcn", "usc_cnn3d", "resnet3d", "vit3d"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.epochs": 0}, "training.epochs"),
        ({"learning.leader_fraction": 1.5}, "learning.leader_fraction"),
        ({"learning.leader_fraction": 0.0}, "learning.leader_fraction"),
        ({"learning.method": "magic"}, "learning.method"),
        ({"learning.head": "magic"}, "auglocal"),
        ({"training.nonsense": 1}, "training.nonsense"),
        ({"nonsense.deep": 1}, "nonsense.deep"),
        ({"learning.blocks": 2, "learning.cuts": ["conv2"]}, "blocks or cuts"),
        ({"target.low_years": 50, "target.high_years": 40}, "below high_years"),
        ({"preprocessing.shape": [2, 2, 2]}, "4 to 512"),
        ({"training.learning_rate": float("inf")}, "training.learning_rate"),
        ({"target.low_years": float("nan")}, "target.low_years"),
        ({"seed": -1}, "seed"),
        ({"split.seed": 2**31}, "split.seed"),
        ({"target.kind": "scalar", "learning.follower_space": "probability"}, "follower_space"),
    ],
)
def test_wrong_setting_is_named(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        with_changes(load_preset("cnn3d_light"), changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["seed", "training.epochs", "learning.leader_fraction"])
def test_yes_is_no_number(key):
    with pytest.raises(ConfigError, match=f"{key}: .*no yes or no"):
        with_changes(load_preset("phantom"), {key: True})


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="cnn3d_light"):
        load_preset("nothing")


def test_every_wrong_key_is_listed_at_once():
    with pytest.raises(ConfigError, match=r"training\.epochs.*seed"):
        build_config({"network": {"name": "sfcn"}, "training": {"epochs": "x"}, "seed": "y"}, "f")


@pytest.mark.parametrize("text", ["[1, 2", "just text", "", "- a\n- b"])
def test_broken_file_is_refused(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_config(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
