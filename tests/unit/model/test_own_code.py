"""Networks and methods of one's own by name: built, trained, written, and loaded with care."""

import importlib
import sys

import pytest
import torch

from brainage import named_code
from brainage.cohorts.splits import make_split
from brainage.config import load_preset, with_changes
from brainage.errors import BundleError, ConfigError
from brainage.lfnn.rules import METHOD_RULES
from brainage.model.build import build_model, stage_names
from brainage.model.bundle import load_bundle, save_bundle
from brainage.training.options import TrainOptions
from brainage.training.run import train_run
from brainage.workflows.settings import choose_config, resolve_config
from tests.small import make_config, make_noise_cohort

CODE = """
import torch
from torch import nn
from brainage import lfnn

def build(in_channels, input_size, *, width=2):
    return nn.Sequential(
        nn.Conv3d(in_channels, width, 3, 2), nn.ReLU(), nn.Conv3d(width, width, 3, 2), nn.ReLU()
    )

def loss(stack, block_index, outputs, target_values, settings, features):
    return settings.target.loss(outputs, target_values).mean()

RULE = lfnn.local_rule(loss)
NUMBER = 3

def lazy(in_channels, input_size):
    return [nn.LazyConv3d(4, 3, 2), nn.ReLU(), nn.LazyConv3d(4, 3, 2), nn.ReLU()]

def tied(in_channels, input_size):
    first = nn.Conv3d(in_channels, 4, 3, 2)
    return [first, nn.Conv3d(4, 4, 3, 2), lambda x: x * first.weight.mean()]

class PreActivated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(4, 4, 3, 2)

    def forward(self, x):
        return self.conv(x.relu_())

def in_place(in_channels, input_size):
    return [nn.Conv3d(in_channels, 4, 3, 2), PreActivated()]

class Moving(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.attribute = kind, torch.zeros(())
        self.register_buffer("saved", torch.zeros(()))
        self.register_buffer("transient", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.kind == "drawn":
            return x + torch.randn(())
        if self.training:
            setattr(self, self.kind, getattr(self, self.kind) + x.detach().square().mean())
        return x * (1 + getattr(self, self.kind))

def moving(in_channels, input_size, *, kind):
    return [nn.Conv3d(in_channels, 4, 3, 2), Moving(kind), nn.Conv3d(4, 4, 3, 2)]
"""
SHAPE = make_config("cnn3d_light").input_shape
NETWORK, METHOD = "own_code_of_a_test:build", "own_code_of_a_test:RULE"


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    (tmp_path / "own_code_of_a_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(named_code, "_used", set())
    yield
    sys.modules.pop("own_code_of_a_test", None)


def make_own_config():
    names = {"network.name": NETWORK, "learning.method": METHOD}
    return with_changes(make_config("cnn3d_light", blocks=2), names)


def test_a_network_of_one_s_own_gets_the_other_settings_of_the_preset():
    config = resolve_config(NETWORK, None, {}, [])
    preset = load_preset("cnn3d_light")
    assert config.network.name == NETWORK and config.network.arguments == {}
    assert config.model_copy(update={"network": preset.network}) == preset
    assert choose_config(NETWORK, None) == config
    assert resolve_config("cnn3d_light", None, {"network.name": NETWORK}, []) == config
    assert resolve_config(NETWORK, None, {}, [], "images").task == "images"


def test_its_stages_are_those_with_weights():
    config = with_changes(make_own_config(), {"network.arguments": {"width": 4}})
    assert stage_names(config) == ["0", "2"]
    assert build_model(config)[0].body[0][0].out_channels == 4
    with pytest.raises(ConfigError, match=r"knows no depth.*It takes: width"):
        build_model(with_changes(config, {"network.arguments": {"depth": 4}}))


def own_network(name, **learning):
    changes = {f"learning.{key}": value for key, value in learning.items()}
    return with_changes(
        make_config("cnn3d_light", blocks=2),
        {"network.name": f"own_code_of_a_test:{name}", "network.arguments": {}, **changes},
    )


def test_lazy_weights_are_those_of_the_seed():
    config = own_network("lazy", blocks=None)
    first, again, other = (
        next(build_model(with_changes(config, {"seed": seed})).parameters()) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_weight_that_a_function_takes_from_another_block_is_refused():
    with pytest.raises(ConfigError, match="blocks 0 and 1 share"):
        build_model(own_network("tied"))


def test_a_block_leaves_the_features_of_the_one_below_alone():
    model = build_model(own_network("in_place"))
    features = torch.randn(2, *model[0].body(torch.zeros(1, *SHAPE)).shape[1:])
    before = features.clone()
    model[1].body(features)
    assert torch.equal(features, before)


@pytest.mark.parametrize("kind", ["saved", "transient", "attribute", "drawn"])
def test_a_network_that_a_saved_model_would_not_be_is_refused_before_it_trains(kind):
    config = with_changes(own_network("moving"), {"network.arguments": {"kind": kind}})
    cohort = make_noise_cohort()
    split = make_split(cohort.cohort, config.split)
    if kind == "saved":
        train_run(cohort, split, config, TrainOptions(device="cpu"))
        return
    with pytest.raises(ConfigError, match="otherwise each time" if kind == "drawn" else "not sav"):
        train_run(cohort, split, config, TrainOptions(device="cpu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.name": "no_such_module:build"}, "network.name.*cannot be imported"),
        ({"network.name": "own_code_of_a_test:nothing"}, "has no nothing"),
        ({"learning.method": "own_code_of_a_test:nothing"}, "learning.method.*has no nothing"),
        ({"learning.method": "no rule"}, "learning.method.*package.module:RULE or one of bp"),
    ],
)
def test_a_wrong_name_is_told_before_any_work(changes, message):
    with pytest.raises(ConfigError, match=message):
        resolve_config("cnn3d_light", None, changes, [])


def test_code_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="is a int, not a rule"):
        METHOD_RULES["own_code_of_a_test:NUMBER"]
    with pytest.raises(ConfigError, match="unknown method 'magic'"):
        METHOD_RULES["magic"]
    changes = {"network.name": "own_code_of_a_test:NUMBER"}
    with pytest.raises(ConfigError, match="is no function"):
        build_model(with_changes(make_own_config(), changes))


def test_a_model_on_disk_runs_foreign_code_only_where_the_user_allows_it(tmp_path, monkeypatch):
    config = make_own_config()
    save_bundle(tmp_path / "bundle", build_model(config), config, {})
    assert load_bundle(tmp_path / "bundle").config == config  # this process has built it
    monkeypatch.setattr(named_code, "_used", set())
    sys.modules.pop("own_code_of_a_test")
    with pytest.raises(BundleError, match=f"{named_code.TRUSTED}=own_code_of_a_test"):
        load_bundle(tmp_path / "bundle")
    assert "own_code_of_a_test" not in sys.modules
    monkeypatch.setenv(named_code.TRUSTED, "other, own_code_of_a_test")
    again = load_bundle(tmp_path / "bundle")
    assert again.facts["network"] == NETWORK and again.facts["method"] == METHOD


def test_a_model_on_disk_whose_code_is_absent_is_refused_in_one_line(tmp_path, monkeypatch):
    config = make_own_config()
    save_bundle(tmp_path / "bundle", build_model(config), config, {})
    sys.modules.pop("own_code_of_a_test")
    (tmp_path / "own_code_of_a_test.py").unlink()
    with pytest.raises(BundleError, match=r"code that is absent: .*own_code_of_a_test") as caught:
        load_bundle(tmp_path / "bundle")
    assert "\n" not in str(caught.value)


def test_a_model_on_disk_whose_code_has_changed_is_refused(tmp_path, monkeypatch):
    config, code = make_own_config(), tmp_path / "own_code_of_a_test.py"
    save_bundle(tmp_path / "bundle", build_model(config), config, {})
    save_bundle(tmp_path / "half", build_model(config), config, {}, half=True)
    assert load_bundle(tmp_path / "bundle").facts["answer_to_noise"]
    monkeypatch.setenv(named_code.TRUSTED, "own_code_of_a_test")
    for changed, is_same in ((CODE + "# other", True), (CODE.replace("ReLU", "Tanh"), False)):
        sys.modules.pop("own_code_of_a_test")
        code.write_text(changed)
        importlib.invalidate_caches()
        load_bundle(tmp_path / "half")  # rounded weights answer otherwise anyway
        if is_same:
            load_bundle(tmp_path / "bundle")
            continue
        with pytest.raises(BundleError, match="answers otherwise"):
            load_bundle(tmp_path / "bundle")


def test_a_network_and_a_method_of_one_s_own_train_like_any_other(tmp_path):
    cohort, config = make_noise_cohort(), make_own_config()
    split = make_split(cohort.cohort, config.split)
    trained = train_run(cohort, split, config, TrainOptions(output=tmp_path, device="cpu"))
    start = build_model(config).state_dict()
    assert not torch.equal(
        trained.model.state_dict()["blocks.0.body.0.0.weight"],
        start["blocks.0.body.0.0.weight"],
    )
    assert trained.config.learning.method == METHOD
