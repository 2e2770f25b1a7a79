"""From a study's YAML to its runs: the products of the plan, once for each data set and seed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from brainage.config import Config, Settings, config_folder, dump_config, with_changes
from brainage.errors import ConfigError
from brainage.files import parse_yaml, sha256_bytes

Value = str | float | int
Product = dict[str, tuple[Value, ...]]
Changes = dict[str, Any]

AXES = {
    "method": "learning.method",
    "leader_fraction": "learning.leader_fraction",
    "follower_weight": "learning.follower_weight",
    "follower_space": "learning.follower_space",
    "selection": "learning.selection",
    "blocks": "learning.blocks",
    "head": "learning.head",
}
"""Axes that are one setting; others are named bundles of settings, under `choices` in the YAML."""

_NUMBERS = re.compile(r"(\d+)")

Seeds = Annotated[tuple[int, ...], Field(min_length=1)]


class QuickBudget(Settings):
    """The reduced budget of `--quick`: what it replaces, and settings that it changes."""

    seeds: Seeds | None = None
    plan: Annotated[tuple[Product, ...], Field(min_length=1)] | None = None
    changes: Changes = Field(default_factory=dict)


class StudyConfig(Settings):
    """One table or figure.

    Attributes
    ----------
    title : str
        Heading of table and picture.
    runs : mapping of str to Config
        Complete settings of a run, by data set.
    choices : mapping
        Axis, then value, then the settings it stands for by dotted key.
    plan : tuple of mapping
        Each is a product of axis values; axis `dataset` picks from `runs`, all where it is absent.
    seeds : tuple of int
        One run each.
    note : str
        What the reader must know beside the table.
    """

    title: str
    runs: Annotated[dict[str, Config], Field(min_length=1)]
    choices: dict[str, dict[str, Changes]] = Field(default_factory=dict)
    plan: Annotated[tuple[Product, ...], Field(min_length=1)] = ({},)
    seeds: Seeds = (0,)
    quick: QuickBudget = QuickBudget()
    note: str = ""

    @field_validator("plan")
    @classmethod
    def _no_empty_axis(cls, plan: tuple[Product, ...]) -> tuple[Product, ...]:
        if any(not values for group in plan for values in group.values()):
            raise ValueError("an axis needs at least one value")
        return plan


@dataclass(frozen=True)
class Case:
    """One run of a study.

    Attributes
    ----------
    axes : mapping
        Data set and axis values: what tells the table's rows apart.
    config : Config
        Settings, seed included.
    """

    axes: Mapping[str, Value]
    config: Config

    @property
    def name(self) -> str:
        """Readable and unique: axis values, seed, and a hash of the settings."""
        parts = [str(value) for value in self.axes.values()]
        digest = sha256_bytes(dump_config(self.config).encode())[:8]
        return "-".join([*parts, f"seed{self.config.seed}", digest])


def study_names() -> list[str]:
    """Names that `load_study` accepts, numbers in their order."""
    names = [path.stem for path in (config_folder() / "study").glob("*.yaml")]
    return sorted(names, key=lambda name: [part.zfill(3) for part in _NUMBERS.split(name)])


def list_studies() -> str:
    """Names and titles of all studies, one a line."""
    folder = config_folder() / "study"
    titles = {
        name: parse_yaml((folder / f"{name}.yaml").read_text(encoding="utf-8"))["title"]
        for name in study_names()
    }
    width = max(map(len, titles))
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())


def check_name(name: str) -> None:
    """Refuse a name that is no study's.

    Raises
    ------
    ConfigError
        With the names that there are.
    """
    if name not in study_names():
        known = ", ".join(study_names())
        raise ConfigError("study", f"unknown study {name!r}.", f"Choose one of: {known}.")


def load_study(name: str, path: Path | None = None) -> StudyConfig:
    """Load a study's settings.

    Raises
    ------
    ConfigError
        If the name is unknown, or the file is not valid.
    """
    check_name(name)
    path = path or config_folder() / "study" / f"{name}.yaml"
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), f"cannot be read ({type(error).__name__}).") from error
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise ConfigError(str(path), f"{key}: {first['msg']}.") from error


def build_cases(study: StudyConfig, quick: bool) -> list[Case]:
    """Build all runs of a study, seed after seed: an early stop leaves whole tables.

    Raises
    ------
    ConfigError
        If an axis or one of its values is unknown, or two runs are the same.
    """
    budget = study.quick if quick else QuickBudget()
    cases = [
        _build_case(study, axes, seed, budget.changes)
        for seed in budget.seeds or study.seeds
        for axes in _products(study, budget.plan or study.plan)
    ]
    names = [case.name for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError("plan", f"the same run stands there twice: {sorted(twice)[0]}.")
    return cases


def describe_reduction(study: StudyConfig) -> str:
    """Say in one line in what `--quick` differs from the full study."""
    quick = study.quick
    chosen, whole = (
        list(_products(study, plan)) for plan in (quick.plan or study.plan, study.plan)
    )
    parts = []
    if quick.seeds is not None and len(quick.seeds) < len(study.seeds):
        parts.append(f"{len(quick.seeds)} of {len(study.seeds)} seeds")
    if len(chosen) < len(whole):
        parts.append(f"{len(chosen)} of {len(whole)} settings")
    datasets = {str(axes["dataset"]) for axes in chosen}
    for key, value in study.quick.changes.items():
        before = {_setting(study.runs[name], key) for name in sorted(datasets)}
        parts.append(f"{key} {value} instead of {' or '.join(sorted(before))}")
    return ", ".join(parts)


def _setting(config: Config, key: str) -> str:
    """Write a setting as text, and what stands for it where it is open."""
    if key == "training.epochs" and config.training.iterations is not None:
        return f"{config.training.iterations} steps"
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "the usual" if value is None else str(value)


def _products(study: StudyConfig, plan: tuple[Product, ...]) -> Iterator[dict[str, Value]]:
    for group in plan:
        axes = {"dataset": tuple(study.runs), **group}
        for values in product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def _build_case(study: StudyConfig, axes: dict[str, Value], seed: int, budget: Changes) -> Case:
    dataset = str(axes["dataset"])
    if dataset not in study.runs:
        raise ConfigError("plan.dataset", f"{dataset!r} is none of {', '.join(study.runs)}.")
    changes: Changes = dict(budget)
    for axis, value in axes.items():
        if axis != "dataset":
            changes |= _changes_of(study, axis, value)
    config = with_changes(study.runs[dataset], changes | {"seed": seed}, "study")
    return Case(axes, config)


def _changes_of(study: StudyConfig, axis: str, value: Value) -> Changes:
    if axis in AXES:
        return {AXES[axis]: value}
    choices = study.choices.get(axis)
    if choices is None:
        known = ", ".join(["dataset", *AXES, *study.choices])
        raise ConfigError("plan", f"unknown axis {axis!r}.", f"Known: {known}.")
    if value not in choices:
        raise ConfigError(f"plan.{axis}", f"{value!r} is none of {', '.join(choices)}.")
    return choices[str(value)]
