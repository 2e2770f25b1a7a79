"""From preset, file and options to one resolved configuration."""

from pathlib import Path
from typing import Any

from brainage.config import Config, load_config, load_preset, with_changes
from brainage.errors import ConfigError
from brainage.files import parse_yaml
from brainage.types import BASELINES, METHODS
from brainage.workflows.console import parse_pairs
from brainage.workflows.inputs import check_choices


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
    config = load_config(path) if path is not None else load_preset(preset, family)
    config = with_changes(config, changes)
    assigned = {
        key: _parse_value(key, value) for key, value in parse_pairs(assignments, "--set").items()
    }
    return with_changes(config, assigned, "--set")


def parse_methods(text: str) -> tuple[str, ...]:
    """Split a list of methods; a method of one's own is package.module:RULE.

    Raises
    ------
    ConfigError
        If one is unknown or named twice.
    """
    own = tuple(part.strip() for part in text.split(",") if ":" in part)
    return check_choices("--methods", text, (*METHODS, *own))


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
