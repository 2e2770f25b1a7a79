"""Networks as ordered stages, ready to be cut into blocks.

A network is a module of this package with a function ``build_stages(in_channels, input_size, *,
...)`` that returns a dict from stage name to module; adding one touches no other file.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from torch import nn

from brainage.errors import ConfigError


def network_names() -> list[str]:
    """Names that `build_stages` accepts."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def build_stages(
    name: str, in_channels: int, input_size: tuple[int, ...], arguments: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Build the stages of a network.

    Parameters
    ----------
    name : str
        Module of this package.
    in_channels : int
        Channels of the input.
    input_size : tuple of int
        Spatial size of the input, (I, J, K) or (I, J).
    arguments : mapping
        Keyword arguments of the network.

    Raises
    ------
    ConfigError
        If the network or an argument is unknown, or an argument has a wrong type or value.
    """
    if name not in network_names():
        raise ConfigError(
            "network.name", f"unknown network {name!r}.", f"Choose: {', '.join(network_names())}."
        )
    build = importlib.import_module(f"{__name__}.{name}").build_stages
    accepted = list(inspect.signature(build).parameters)[2:]
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        raise ConfigError(
            "network.arguments",
            f"{name} knows no {', '.join(unknown)}.",
            f"It takes: {', '.join(accepted)}.",
        )
    try:
        stages: dict[str, nn.Module] = build(in_channels, input_size, **arguments)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise ConfigError("network.arguments", f"{name} refuses them: {error}.") from error
    if not stages:
        raise ConfigError("network.arguments", f"{name} has no stages with them.", "Give more.")
    return stages
