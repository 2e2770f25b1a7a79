"""From the YAML of a race to its tracks and entrants."""

from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from brainage.config import Config, Settings, config_folder, with_changes
from brainage.errors import ConfigError
from brainage.files import parse_yaml
from brainage.types import METHODS
from pipelines.speed.entrants import Spec

Changes = dict[str, Any]


class Line(Settings):
    """One entrant of the plan; see `pipelines.speed.entrants.Spec`."""

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

    def to_spec(self) -> Spec:
        """The same as a plain value."""
        return Spec(**self.model_dump())


class Quick(Settings):
    """What `--quick` replaces."""

    repeats: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=0)] = 2
    changes: Changes = Field(default_factory=dict)
    cases: dict[str, Changes] | None = None


class RacePlan(Settings):
    """One race.

    Attributes
    ----------
    title : str
        Heading of table and picture.
    config : Config
        Complete settings that all entrants share.
    cases : mapping of str to mapping
        Name, then settings by dotted key: every entrant runs every case, such as a volume's size.
    entrants : tuple of Line
        In the order of the table.
    against : str
        Name of the entrant that ratios refer to.
    trains : bool
        Train to the end on the cohort, for `seconds_to_target`; else time steps on noise.
    threads, repeats, steps, warmup_steps, step_limit_s
        See `pipelines.speed.entrants.Track`.
    note : str
        What the reader must know beside the table.
    """

    title: str
    config: Config
    cases: Annotated[dict[str, Changes], Field(min_length=1)] = {"all": {}}
    entrants: Annotated[tuple[Line, ...], Field(min_length=1)]
    against: str
    trains: bool = False
    threads: Annotated[int, Field(ge=1)] = 2
    repeats: Annotated[int, Field(ge=1)] = 5
    steps: Annotated[int, Field(ge=0)] = 10
    warmup_steps: Annotated[int, Field(ge=0)] = 2
    step_limit_s: Annotated[float, Field(gt=0.0)] = 60.0
    quick: Quick = Quick()
    note: str = ""

    @model_validator(mode="after")
    def _names(self) -> "RacePlan":
        names = [line.name for line in self.entrants]
        if len(set(names)) < len(names):
            raise ValueError("entrants: two have the same name")
        if self.against not in names:
            raise ValueError(f"against: no entrant is called {self.against!r}")
        return self

    def shortened(self) -> "RacePlan":
        """The plan under `--quick`."""
        quick = self.quick
        changes = {
            "repeats": quick.repeats,
            "steps": min(self.steps, quick.steps),
            "warmup_steps": min(self.warmup_steps, 1),
            "config": with_changes(self.config, self._quick_for_all(), "quick"),
            "cases": quick.cases or self.cases,
            "entrants": tuple(
                line.model_copy(update={"changes": line.changes | quick_of(line, quick.changes)})
                for line in self.entrants
            ),
        }
        return self.model_copy(update=changes)

    def _quick_for_all(self) -> Changes:
        """What `--quick` says of settings that the plan itself makes, not entrants alone."""
        own = {key for line in self.entrants for key in line.changes}
        return {
            key: value
            for key, value in self.quick.changes.items()
            if key not in own or attrgetter(key)(self.config) is not None
        }


def quick_of(line: Line, changes: Changes) -> Changes:
    """What `--quick` says of settings that an entrant has of its own."""
    return {key: value for key, value in changes.items() if key in line.changes}


def plan_names() -> list[str]:
    """Names that `load_plan` accepts."""
    return sorted(path.stem for path in (config_folder() / "speed").glob("*.yaml"))


def load_plan(name: str, path: Path | None = None) -> RacePlan:
    """Load the plan of a race by name, or from a file.

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
        return RacePlan.model_validate(content)
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(str(path), "; ".join(parts) + ".") from error
