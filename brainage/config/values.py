"""Kinds of values that settings have, and the base of all settings."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from brainage.named_code import is_code_name
from brainage.types import HEADS, METHODS


def _check_method(name: str) -> str:
    if name not in METHODS and not is_code_name(name):
        raise ValueError(f"must be package.module:RULE or one of {', '.join(METHODS)}")
    return name


def _check_head(name: str) -> str:
    if name not in HEADS:
        raise ValueError(f"must be one of {', '.join(HEADS)}")
    return name


def _check_leader_fraction(value: Any) -> float | str:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = 0.0
    if value != "auto" and not 0.0 < fraction <= 1.0:
        raise ValueError("must be above 0 and at most 1, or auto")
    return "auto" if value == "auto" else fraction


Method = Annotated[str, AfterValidator(_check_method)]
HeadName = Annotated[str, AfterValidator(_check_head)]
LeaderFraction = Annotated[float | Literal["auto"], BeforeValidator(_check_leader_fraction)]
# What every generator accepts; repeats add to it.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Correlation = Annotated[float, Field(ge=-1.0, le=1.0)]
# Of a setting that came later: left out of the text where it is empty or 0.
LATER = Field(exclude_if=lambda value: not value)


class Settings(BaseModel):
    """Base of all settings: immutable, finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_for_one(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and "bool" not in str(field.annotation):
            raise ValueError("expected no yes or no")
        return value
