"""Optional packages, imported where they are used."""

from importlib import import_module
from importlib.util import find_spec
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
    check_extra(module, extra)
    return import_module(module)


def check_extra(module: str, extra: str) -> None:
    """Refuse to go on without an optional package, before anything heavy is loaded.

    Parameters
    ----------
    module, extra : str
        As in `require`.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    package = module.partition(".")[0]
    if find_spec(package) is None:
        remedy = f"Install it: pip install 'brainage[{extra}]'"
        raise MissingExtraError(package, "is needed here and not installed.", remedy)
