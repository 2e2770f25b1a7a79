"""Resolve preset, file and options to one configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainage.config import Config, load_config, load_preset, with_changes
from brainage.errors import ConfigError
from brainage.files import parse_yaml
from brainage.named_code import is_code_name, load_code
from brainage.types import BASELINES, METHODS
from brainage.workflows.console import parse_pairs
from brainage.workflows.inputs import check_choices
from brainage.workflows.unheeded import tell_unheeded

FIRST_PRESETS = {"brain_age": "cnn3d_light", "images": "resnet32"}
"""Presets whose other settings a network of one's own gets."""


def resolve_config(
    preset: str,
    path: Path | None,
    changes: dict[str, Any],
    assignments: list[str],
    family: str = "brain_age",
) -> Config:
    """Load the preset or file, then apply options, then --set assignments.

    Raises
    ------
    ConfigError
        If a file, key or value is wrong.
    """
    config = load_config(path) if path is not None else _load_named(preset, family)
    config = with_changes(config, changes)
    assigned = {
        key: _parse_value(key, value) for key, value in parse_pairs(assignments, "--set").items()
    }
    return _with_code(with_changes(config, assigned, "--set"))


def _load_named(name: str, family: str) -> Config:
    """Load a preset; a network of one's own stands for the first preset with that network."""
    if not is_code_name(name):
        return load_preset(name, family)
    return with_changes(load_preset(FIRST_PRESETS[family], family), {"network.name": name})


def _with_code(config: Config) -> Config:
    """Import a network and a method of one's own now: a wrong name is told before any work."""
    if is_code_name(config.network.name):
        load_code(config.network.name, "network.name")
    if is_code_name(config.learning.method):
        load_code(config.learning.method, "learning.method")
    return config


def choose_config(
    config: Config | str | Path,
    settings: Mapping[str, Any] | None,
    methods: Sequence[str] = (),
    draws_test: bool = True,
) -> Config:
    """Return a configuration with some settings changed, and warn of those that change nothing.

    Parameters
    ----------
    config : Config, str or pathlib.Path
        A configuration, the name of a preset, a YAML file, or a network of one's own
        (``package.module:function``).
    settings : mapping, optional
        Values by dotted key, such as ``{"training.epochs": 5}``.
    methods : sequence of str
        Methods that are run; none: that of the settings.
    draws_test : bool
        Whether a test part is drawn.

    Raises
    ------
    ConfigError
        If a preset, file, key or value is wrong.
    """
    if not isinstance(config, Config):
        is_file = isinstance(config, Path) or config.endswith((".yaml", ".yml"))
        config = load_config(Path(config)) if is_file else _load_named(str(config), "brain_age")
    config = _with_code(with_changes(config, dict(settings or {}), "settings"))
    tell_unheeded(config, settings or {}, methods, draws_test)
    return config


def parse_folds(text: str) -> int | str:
    """Read a number of folds, or the name of the column that holds each scan's fold.

    Raises
    ------
    ConfigError
        If the number is below 1.
    """
    if not text.lstrip("-").isdecimal():
        return text
    if int(text) < 1:
        raise ConfigError("--folds", f"expected 1 or more, got {text}.")
    return int(text)


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """Check methods to compare; a method of one's own is package.module:RULE.

    Raises
    ------
    ConfigError
        If one is unknown or named twice, or none is given.
    """
    own = [name for name in methods if is_code_name(name)]
    return check_choices("--methods", ",".join(methods), (*METHODS, *own))


def parse_baselines(text: str) -> tuple[str, ...]:
    """Split a list of baselines; `all` is every one.

    Raises
    ------
    ConfigError
        If one is unknown or named twice.
    """
    names = check_choices("--baselines", text, (*BASELINES, "all")) if text.strip() else ()
    return BASELINES if "all" in names else names


def _parse_value(key: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ConfigError("--set", f"{key}: {text!r} is not a value.") from error
