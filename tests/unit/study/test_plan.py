"""A study's YAML becomes the runs that it says."""

from typing import Any

import pytest
from pydantic import ValidationError

from brainage.config import build_config
from brainage.errors import ConfigError
from pipelines.study.plan import StudyConfig, build_cases, load_study

RUN = {
    "images": {"dataset": "mnist"},
    "target": {"kind": "classes"},
    "network": {"name": "mlp", "arguments": {"activation": "after"}},
}
CHOICES = {"reading": {"native": {"network.arguments.activation": "before"}, "all": {}}}


def make_study(**content: Any) -> StudyConfig:
    runs = {"mnist": build_config(RUN, "test")}
    return StudyConfig.model_validate({"title": "t", "runs": runs, "choices": CHOICES, **content})


def test_a_product_is_unfolded_over_data_sets_axes_and_seeds() -> None:
    plan = [{"reading": ["native", "all"], "leader_fraction": [0.2, 1.0]}, {"method": ["bp"]}]
    cases = build_cases(make_study(plan=plan, seeds=[3, 4]), quick=False)
    assert len(cases) == 10
    first = cases[0]
    assert first.axes == {"dataset": "mnist", "reading": "native", "leader_fraction": 0.2}
    assert first.config.learning.leader_fraction == 0.2
    assert first.config.network.arguments["activation"] == "before"
    assert [case.config.seed for case in cases] == [3] * 5 + [4] * 5


def test_quick_replaces_seeds_and_plan_and_changes_settings() -> None:
    quick = {"seeds": [7], "plan": [{"method": ["bp"]}], "changes": {"training.epochs": 2}}
    study = make_study(plan=[{"method": ["lfnn_l"]}], seeds=[0, 1], quick=quick)
    (case,) = build_cases(study, quick=True)
    assert (case.config.seed, case.config.training.epochs) == (7, 2)
    assert case.config.learning.method == "bp"


def test_a_run_is_named_after_all_its_settings() -> None:
    names = [
        build_cases(make_study(quick={"changes": {"training.epochs": n}}), quick=True)[0].name
        for n in (1, 2)
    ]
    assert names[0].startswith("mnist-seed0-") and names[0] != names[1]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([{"colour": ["red"]}], "unknown axis 'colour'"),
        ([{"reading": ["none"]}], "plan.reading: 'none' is none of native, all"),
        ([{"dataset": ["cifar10"]}], "'cifar10' is none of mnist"),
        ([{"method": ["bp", "bp"]}], "stands there twice"),
        ([{"leader_fraction": [2.0]}], "leader_fraction"),
    ],
)
def test_a_wrong_plan_is_refused(plan: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_cases(make_study(plan=plan), quick=False)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="seedz"):
        make_study(seedz=[1])


def test_unknown_study_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown study 's99'.*fig_s10"):
        load_study("s99")
