"""Find the research programs of the repository, which no wheel installs."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from brainage.errors import ConfigError

_REPOSITORY = Path(__file__).parents[2]


def load_program(name: str) -> Any:
    """Import a module of the repository's folder `pipelines`.

    Parameters
    ----------
    name : str
        Such as `pipelines.study.engine`.

    Raises
    ------
    ConfigError
        If this is an installed package, which comes without that folder.
    """
    folder = _REPOSITORY / "pipelines"
    if not (folder / "study").is_dir():
        raise ConfigError(
            "brainage",
            "studies and speed benchmarks are not part of the installed package.",
            "Clone the repository, run `make dev` in it, and call its .venv/bin/brainage.",
        )
    loaded = sys.modules.get("pipelines")
    if loaded is None and str(_REPOSITORY) != sys.path[0]:
        # Before a folder of the same name in PYTHONPATH.
        sys.path.insert(0, str(_REPOSITORY))
    return import_module(name)
