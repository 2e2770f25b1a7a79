"""Networks and methods of the user's own, named ``package.module:NAME``.

What a user types on the command line or into a YAML file is imported. What a model on disk names
is not: it may come from someone else, and an import runs code. It is imported only where the same
process has used that name before, or where `TRUSTED` lists its module.
"""

import importlib
import os
import re
from typing import Any

from brainage.errors import BundleError, ConfigError

TRUSTED = "BRAINAGE_TRUSTED_CODE"
"""Environment variable: modules, separated by commas, that a model on disk may import."""

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_used: set[str] = set()


def is_code_name(name: str) -> bool:
    """Whether a name has the form ``package.module:NAME``."""
    return _NAME.fullmatch(name) is not None


def load_code(name: str, where: str) -> Any:
    """Import what a user has named.

    Parameters
    ----------
    name : str
        ``package.module:NAME``.
    where : str
        Configuration key that holds it.

    Raises
    ------
    ConfigError
        If there is no such module, or nothing of that name in it.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(
            where,
            f"{name}: {module_name} cannot be imported ({type(error).__name__}: {error}).",
            "Install it, or put its folder into PYTHONPATH.",
        ) from error
    if not hasattr(module, attribute):
        raise ConfigError(where, f"{name}: {module_name} has no {attribute}.")
    _used.add(name)
    return getattr(module, attribute)


def check_trusted(name: str, where: str) -> None:
    """Refuse to import what a model on disk names, unless the user has allowed it.

    Raises
    ------
    BundleError
        If the process has not used the name, and `TRUSTED` does not list its module.
    """
    module_name = name.partition(":")[0]
    trusted = [part.strip() for part in os.environ.get(TRUSTED, "").split(",")]
    if name not in _used and module_name not in trusted:
        raise BundleError(
            where,
            f"needs {name}, code that is no part of brainage and that loading would run.",
            f"If you trust it, set {TRUSTED}={module_name}.",
        )
