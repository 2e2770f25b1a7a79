"""Optional packages, imported where they are used."""

from importlib import import_module
from types import ModuleType

from brainage.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Module to import, such as ``distributed``.
    extra : str
        Extra of ``pip install 'brainage[extra]'`` that brings it.

    Raises
    ------
    MissingExtraError
        If the package is not installed.

    Examples
    --------
    >>> require("json", "cluster").loads("[1]")
    [1]
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        remedy = f"Install it: pip install 'brainage[{extra}]'"
        raise MissingExtraError(package, "is needed here and not installed.", remedy) from error
