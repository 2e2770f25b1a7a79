"""Load the plan of a benchmark: settings, cases, candidates."""

from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from brainage.config import Config, Settings, config_folder, with_changes
from brainage.errors import ConfigError
from brainage.files import parse_yaml
from brainage.types import METHODS

Changes = dict[str, Any]


class Candidate(Settings):
    """One candidate of a benchmark: a method under a schedule.

    Attributes
    ----------
    name : str
        Unique in the plan; stands in tables and pictures.
    method : str
        Name of a learning method, `brainage.types.METHODS`.
    schedule : str
        "end_to_end", "sequential", "progressive", "checkpointed", "compiled"; "pipelined", "ddp",
        "1f1b", "1f1b_m8", "gpipe", "streams".
    devices : int
        Devices or processes.
    changes : dict
        Settings by dotted key that this candidate has of its own, such as ``training.epochs``.
    repeats : int, optional
        Runs; absent: as many as the plan says.
    """

    name: str
    method: str
    schedule: str
    devices: Annotated[int, Field(ge=1)] = 1
    changes: Changes = Field(default_factory=dict)
    repeats: Annotated[int, Field(ge=1)] | None = None

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        if method not in METHODS:
            raise ValueError(f"must be one of {', '.join(METHODS)}")
        return method


def _one_case() -> dict[str, Changes]:
    return {"all": {}}


class Quick(Settings):
    """What `--quick` replaces."""

    repeats: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=0)] = 2
    changes: Changes = Field(default_factory=dict)
    cases: dict[str, Changes] | None = None


class Plan(Settings):
    """Plan of one benchmark.

    Attributes
    ----------
    title : str
        Heading of table and picture.
    config : Config
        Complete settings that all candidates share.
    cases : mapping of str to mapping
        Name, then settings by dotted key: every candidate runs every case, such as a volume's size.
    candidates : tuple of Candidate
        In the order of the table.
    baseline : str
        Name of the candidate that ratios refer to.
    trains : bool
        Train to the end on the cohort, for `seconds_to_target`; else time steps on noise.
    threads, repeats, steps, warmup_steps, step_limit_s
        See `pipelines.speed.runs.RunSettings`.
    note : str
        What the reader must know beside the table.
    """

    title: str
    config: Config
    cases: Annotated[dict[str, Changes], Field(min_length=1)] = Field(default_factory=_one_case)
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1)]
    baseline: str
    trains: bool = False
    threads: Annotated[int, Field(ge=1)] = 2
    repeats: Annotated[int, Field(ge=1)] = 5
    steps: Annotated[int, Field(ge=0)] = 10
    warmup_steps: Annotated[int, Field(ge=0)] = 2
    step_limit_s: Annotated[float, Field(gt=0.0)] = 60.0
    quick: Quick = Quick()
    note: str = ""

    @model_validator(mode="after")
    def _names(self) -> "Plan":
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise ValueError("candidates: two have the same name")
        if self.baseline not in names:
            raise ValueError(f"baseline: no candidate is called {self.baseline!r}")
        return self

    def shortened(self) -> "Plan":
        """Replace what `--quick` replaces."""
        quick = self.quick
        changes = {
            "repeats": quick.repeats,
            "steps": min(self.steps, quick.steps),
            "warmup_steps": min(self.warmup_steps, 1),
            "config": with_changes(self.config, self._quick_for_all(), "quick"),
            "cases": quick.cases or self.cases,
            "candidates": tuple(_shorten(one, quick.changes) for one in self.candidates),
        }
        return self.model_copy(update=changes)

    def _quick_for_all(self) -> Changes:
        """Select what `--quick` changes in the plan's own settings, not in candidates alone."""
        own = {key for candidate in self.candidates for key in candidate.changes}
        return {
            key: value
            for key, value in self.quick.changes.items()
            if key not in own or attrgetter(key)(self.config) is not None
        }


def _shorten(candidate: Candidate, changes: Changes) -> Candidate:
    own = {key: value for key, value in changes.items() if key in candidate.changes}
    return candidate.model_copy(update={"changes": candidate.changes | own})


def plan_names() -> list[str]:
    """List the names that `load_plan` accepts."""
    return sorted(path.stem for path in (config_folder() / "speed").glob("*.yaml"))


def load_plan(name: str, path: Path | None = None) -> Plan:
    """Load a plan by name, or from a file.

    Raises
    ------
    ConfigError
        If there is no such plan, or it is not valid.
    """
    if path is None:
        if name not in plan_names():
            known = ", ".join(plan_names())
            raise ConfigError("--plan", f"unknown plan {name!r}.", f"Choose one of: {known}.")
        path = config_folder() / "speed" / f"{name}.yaml"
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ConfigError(str(path), "is not valid YAML.", f"{error}.") from error
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(str(path), "; ".join(parts) + ".") from error
