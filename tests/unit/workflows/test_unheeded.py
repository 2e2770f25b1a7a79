"""What is said of settings that change nothing is what happens in a step."""

import warnings

import pytest
import torch
from typer.testing import CliRunner

import brainage.cli.main  # noqa: F401  registers the commands
from brainage.cli.command import app
from brainage.config import load_preset, with_changes
from brainage.errors import CohortError, ConfigError
from brainage.lfnn.rules import METHOD_RULES
from brainage.model.build import build_model
from brainage.training.options import TrainOptions
from brainage.training.state import build_step_settings
from brainage.workflows import train as job
from brainage.workflows.compare import compare
from brainage.workflows.crossval import plan_runs
from brainage.workflows.estimator import BrainAgeRegressor
from brainage.workflows.settings import choose_config
from brainage.workflows.unheeded import tell_ages_outside, unheeded_settings

CHANGES = {
    "learning.leader_fraction": 0.25,
    "learning.follower_weight": 3.0,
    "learning.follower_space": "output",
    "learning.selection": "per_sample",
    "learning.leader_weight": 3.0,
    "learning.workers_per_block": 3,
    "learning.head": "conv",
}
START = {
    "target.low_years": 20.0,
    "target.high_years": 90.0,
    "preprocessing.shape": [12, 12, 12],
    "learning.leader_fraction": 0.5,
    "learning.blocks": 2,
    "learning.follower_space": "output_mean",
    "network.arguments": {"channels": [4, 4]},
}


GREEDY = {"learning.method": "greedy", "learning.blocks": 2}
SCALAR = {"target.kind": "scalar", "learning.follower_space": "output_mean"}


def gradients_of_a_step(config) -> list[torch.Tensor]:
    model = build_model(config)
    random = torch.Generator().manual_seed(0)
    scans = torch.randn(4, 1, *config.preprocessing.shape, generator=random)
    settings = build_step_settings(config, torch.device("cpu"))
    METHOD_RULES[config.learning.method].step(
        model, scans, torch.tensor([30.0, 50.0, 60.0, 80.0]), settings
    )
    weights = model.parameters()
    return [torch.zeros(1) if weight.grad is None else weight.grad for weight in weights]


@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_settings_that_change_no_step_of_a_method_are_those_that_are_told(method):
    config = with_changes(load_preset("phantom"), {**START, "learning.method": method})
    before = gradients_of_a_step(config)
    for name, value in CHANGES.items():
        after = gradients_of_a_step(with_changes(config, {name: value}))
        same = len(before) == len(after) and all(map(torch.equal, before, after))
        assert bool(unheeded_settings(config, [name])) == same, name


@pytest.mark.parametrize(
    ("changes", "asked", "told"),
    [
        ({}, "augmentation.tissue_probability", "max_tissue is 0"),
        ({}, "learning.patience_epochs", "no turns"),
        ({}, "target.label_smoothing", "classes"),
        (SCALAR, "inference.point", "no bins"),
        ({"training.schedule": "constant"}, "training.min_learning_rate", "constant"),
        ({"training.iterations": 9}, "training.epochs", "iterations is 9"),
        ({"learning.freeze_after": [30, 30]}, "learning.freeze_after", "after 30 epochs"),
        ({"learning.freeze_after": [29, 30]}, "learning.freeze_after", None),
        ({"learning.method": "bp"}, "inference.average_heads", "no heads"),
        ({"training.warmup_epochs": 60}, "training.warmup_epochs", "reaches 50%"),
        ({"training.warmup_epochs": 30}, "training.warmup_epochs", None),
        (GREEDY | {"training.warmup_epochs": 16}, "training.warmup_epochs", "turn"),
        (GREEDY | {"training.warmup_epochs": 15}, "training.warmup_epochs", None),
        ({}, "split.test_fraction", None),
        ({"learning.schedule": "progressive"}, "learning.patience_epochs", None),
        ({"augmentation.max_tissue": 1.0}, "augmentation.tissue_probability", None),
    ],
)
def test_settings_without_what_they_need_are_told(changes, asked, told):
    always = {"augmentation.tissue_probability": 1, "training.epochs": 30}
    config = with_changes(load_preset("phantom"), always | changes)
    found = unheeded_settings(config, [asked])
    assert [told is not None and told in sentence for sentence in found] == [True] * bool(told)


def test_settings_of_scans_change_nothing_of_images():
    config = load_preset("resnet32", "images")
    asked = ["augmentation.flip_probability", "preprocessing.shape", "images.flip_probability"]
    assert unheeded_settings(config, asked) == [
        "augmentation.flip_probability, preprocessing.shape change nothing: "
        "images are classified, no scans."
    ]


def test_of_several_methods_one_that_heeds_a_setting_is_enough():
    change = {"learning.leader_fraction": 0.25}
    choose_config("phantom", change, ["bp", "lfnn_l"])
    with pytest.warns(UserWarning, match="in bp, dfa no workers lead and follow"):
        choose_config("phantom", change, ["bp", "dfa"])


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(
    ("options", "told"),
    [([], False), (["--folds", "2"], True), (["--folds", "fold"], True), (["--leave-site-out"], 1)],
)
def test_folds_need_no_share_to_test(command, options, told):
    words = [command, "--cohort", "nowhere.csv", "--output", "o", *options]
    done = CliRunner().invoke(app, [*words, "--set", "split.test_fraction=0.4"])
    assert ("split.test_fraction changes nothing" in done.output) == told


def test_a_share_to_test_is_told_in_python_too(tmp_path):
    asked = {"split.test_fraction": 0.4}
    with (
        pytest.warns(UserWarning, match="test_fraction changes"),
        pytest.raises(CohortError),
    ):
        job.train("nowhere.csv", tmp_path, "phantom", settings=asked, folds=2)
    with (
        pytest.warns(UserWarning, match="test_fraction changes"),
        pytest.raises(CohortError),
    ):
        BrainAgeRegressor(config="phantom", settings=asked).fit(["nowhere.nii"] * 2, [30.0, 40.0])


@pytest.mark.parametrize("option", ["repeats", "baselines", "check_leakage"])
def test_a_comparison_refuses_options_of_a_training_alone(option, tmp_path):
    with pytest.raises(ConfigError, match=f"takes no {option}"):
        compare("nowhere.csv", tmp_path, **{option: 2})


def test_no_repeat_at_all_is_refused():
    with pytest.raises(ConfigError, match="--repeats"):
        plan_runs(None, load_preset("phantom"), TrainOptions(folds=2, repeats=0))


def test_ages_that_the_bins_do_not_hold_are_told():
    config = with_changes(load_preset("phantom"), {"target.high_years": 60.0})
    with pytest.warns(UserWarning, match="2 of 4 ages lie outside"):
        tell_ages_outside(config, [20.0, 60.0, 61.0, 80.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_ages_outside(with_changes(config, SCALAR), [80.0])
        tell_ages_outside(load_preset("phantom"), [80.0])


def test_a_floor_above_the_learning_rate_is_refused():
    with pytest.raises(ConfigError, match="min_learning_rate"):
        with_changes(load_preset("phantom"), {"training.min_learning_rate": 0.5})
