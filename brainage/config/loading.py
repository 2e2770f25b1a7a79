"""YAML in, resolved YAML out; presets by name; changes by dotted key."""

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from brainage.config.run import Config
from brainage.errors import ConfigError, suggest
from brainage.files import parse_yaml, shipped_folder


def config_folder() -> Path:
    """Return the folder of the presets."""
    return shipped_folder("configs")


def preset_names(family: str = "brain_age") -> list[str]:
    """Names that `load_preset` accepts."""
    return sorted(path.stem for path in (config_folder() / family).glob("*.yaml"))


def load_preset(name: str, family: str = "brain_age") -> Config:
    """Load a preset by name.

    Raises
    ------
    ConfigError
        If there is no such preset, or it is not valid.
    """
    if name not in preset_names(family):
        known = ", ".join(preset_names(family))
        option = "--preset" if family == "brain_age" else "--network"
        remedy = f"{suggest(name, preset_names(family))}Choose one of: {known}."
        raise ConfigError(option, f"unknown preset {name!r}.", remedy)
    return load_config(config_folder() / family / f"{name}.yaml")


def load_config(path: Path) -> Config:
    """Load a YAML file of settings.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or has an unknown or invalid key.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror}).") from error
    return parse_config(text, str(path))


def parse_config(text: bytes, where: str) -> Config:
    """Read settings from the bytes of a YAML file.

    Raises
    ------
    ConfigError
        If they are not YAML, or have an unknown or invalid key.
    """
    try:
        content = parse_yaml(text.decode("utf-8"))
    except ValueError as error:  # no UTF-8 is one, too
        raise ConfigError(where, "is not valid YAML.", f"{error}.") from error
    return build_config(content, where)


def build_config(content: Any, where: str) -> Config:
    """Check a mapping and freeze it.

    Raises
    ------
    ConfigError
        With one clause for every wrong key.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        clauses = [_describe(e["loc"], e["msg"], e.get("input")) for e in error.errors()]
        unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
        remedy = suggest(_key(unknown[0]), setting_names()).strip() if unknown else ""
        raise ConfigError(where, "; ".join(clauses) + ".", remedy) from error


def setting_names(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """List the dotted names of all settings.

    Examples
    --------
    >>> "training.epochs" in setting_names()
    True
    """
    names = []
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        names.append(prefix + name)
        for section in sections:
            names += setting_names(section, f"{prefix}{name}.")
    return names


def dump_config(config: Config) -> str:
    """Write a configuration as YAML, every default resolved."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def with_changes(config: Config, changes: dict[str, Any], where: str = "options") -> Config:
    """Replace values by dotted key, for example ``{"training.epochs": 5}``; None is ignored.

    ``learning.blocks`` and ``learning.cuts`` exclude each other: the one that comes replaces the
    other. So do ``training.epochs`` and ``training.iterations``. Another ``network.name`` empties
    ``network.arguments``, which belong to the former one.

    Raises
    ------
    ConfigError
        If a key is unknown or a value is invalid.
    """
    content = config.model_dump(mode="json")
    for key, other in (("blocks", "cuts"), ("cuts", "blocks")):
        if changes.get(f"learning.{key}") is not None:
            content["learning"][other] = None
    if changes.get("training.epochs") is not None:
        content["training"].pop("iterations", None)
    if changes.get("network.name") not in (None, config.network.name):
        content["network"]["arguments"] = {}
    for key, value in changes.items():
        if value is None:
            continue
        *sections, leaf = key.split(".")
        target: Any = content
        for section in sections:
            target = target.get(section)
            if not isinstance(target, dict):
                remedy = suggest(key, setting_names()).strip()
                raise ConfigError(where, f"unknown setting {key!r}.", remedy)
        target[leaf] = value
    return build_config(content, where)


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "file"


def _describe(location: tuple[int | str, ...], message: str, value: Any) -> str:
    """One clause, of one line whatever line breaks a key holds."""
    key = _key(location)
    came = "" if isinstance(value, dict | list) else f", got {value!r}"
    return " ".join(f"{key}: {message[0].lower()}{message[1:]}{came}".split())
