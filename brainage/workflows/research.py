"""Find the research programs of the repository, which no wheel installs, and say what they do."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from brainage.config import Config, config_folder
from brainage.errors import ConfigError, suggest
from brainage.files import parse_yaml
from brainage.workflows.console import say

_REPOSITORY = Path(__file__).parents[2]


def find_programs() -> Path:
    """Return the repository, whose folder `pipelines` holds the programs.

    Raises
    ------
    ConfigError
        If this is an installed package, which comes without that folder.
    """
    if not (_REPOSITORY / "pipelines" / "study").is_dir():
        raise ConfigError(
            "brainage",
            "studies and speed benchmarks are not part of the installed package.",
            "Clone the repository, run `make dev` in it, and call its .venv/bin/brainage.",
        )
    return _REPOSITORY


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
    repository = str(find_programs())
    if "pipelines" not in sys.modules and repository != sys.path[0]:
        # Before a folder of the same name in PYTHONPATH.
        sys.path.insert(0, repository)
    return import_module(name)


def list_studies() -> None:
    """Say which studies there are."""
    say(load_program("pipelines.study.plan").list_studies())


def announce_study(name: str, path: Path | None, quick: bool) -> None:
    """Say which runs a study holds, before anything heavy is loaded.

    Raises
    ------
    ConfigError
        If there is no such study, its file is wrong, or this is no clone of the repository.
    """
    plan = load_program("pipelines.study.plan")
    study = plan.load_study(name, path)
    cases = plan.build_cases(study, quick)
    epochs = max(case.config.training.epochs for case in cases)
    say(
        f"{name}: {study.title}\n{len(cases)} runs of at most {epochs} epochs; finished ones are "
        "not redone, and the time left is told after each."
    )


def announce_benchmark(config: Config) -> None:
    """Say what a benchmark trains, before anything heavy is loaded."""
    dataset = config.images.dataset if config.images else "scans"
    say(
        f"{config.network.name} on {dataset} by {config.learning.method}: at most "
        f"{config.training.epochs} epochs; the bar tells the time left."
    )


def announce_speed(name: str, path: Path | None, quick: bool) -> None:
    """Say what a speed benchmark times and how long at most, before anything heavy is loaded.

    Raises
    ------
    ConfigError
        If there is no such plan, or this is no clone of the repository.
    """
    find_programs()
    folder = config_folder() / "speed"
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if path is None and name not in names:
        remedy = f"{suggest(name, names)}Known: {', '.join(names)}."
        raise ConfigError("--plan", f"unknown plan {name!r}.", remedy)
    path = path or folder / f"{name}.yaml"
    try:
        plan = dict(parse_yaml(path.read_text(encoding="utf-8")))
        runs, cases = len(plan["candidates"]), len(plan.get("cases") or [0])
        repeats = 1 if quick else int(plan.get("repeats", 5))
        limit_s = float(plan.get("step_limit_s", 60.0))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(str(path), f"cannot be read ({type(error).__name__}).") from error
    each = "trains to the end" if plan.get("trains") else f"takes {limit_s:.0f} s or little more"
    say(f"{plan.get('title', name)}\n{runs} × {cases} × {repeats} runs; each {each}.")
