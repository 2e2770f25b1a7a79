"""Networks as ordered stages, ready to be cut into blocks.

A network is a module of this package with a function ``build_stages(in_channels, input_size, *,
...)`` that returns a dict from stage name to module; adding one touches no other file. A network
of the user's own is such a function anywhere, named ``package.module:function``; it may also
return a `torch.nn.Sequential`, a ModuleList or a list of modules.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from brainage.errors import ConfigError
from brainage.named_code import is_code_name, load_code


def network_names() -> list[str]:
    """List the names of the package's networks."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def build_stages(
    name: str, in_channels: int, input_size: tuple[int, ...], arguments: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Build the stages of a network.

    Parameters
    ----------
    name : str
        Module of this package, or ``package.module:function``.
    in_channels : int
        Channels of the input.
    input_size : tuple of int
        Spatial size of the input, (I, J, K) or (I, J).
    arguments : mapping
        Keyword arguments of the network.

    Returns
    -------
    dict
        From stage name to module; of a function of the user's own, whatever it returns.

    Raises
    ------
    ConfigError
        If the network or an argument is unknown, or an argument has a wrong type or value.
    """
    build = _find_network(name)
    parameters = list(inspect.signature(build).parameters.values())[2:]
    accepted = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    unknown = sorted(set(arguments) - set(accepted))
    if unknown and len(accepted) == len(parameters):
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


def _find_network(name: str) -> Callable[..., dict[str, nn.Module]]:
    if is_code_name(name):
        found: Callable[..., dict[str, nn.Module]] = load_code(name, "network.name")
        if callable(found):
            return found
        raise ConfigError("network.name", f"{name} is no function.")
    if name not in network_names():
        known = ", ".join(network_names())
        raise ConfigError(
            "network.name", f"unknown network {name!r}.", f"Use package.module:function or {known}."
        )
    found = importlib.import_module(f"{__name__}.{name}").build_stages
    return found
