"""Register commands: groups of options become single options, errors become one line.

Typer takes one parameter an option. A parameter of a command that is annotated with a dataclass
stands for all its fields here, so that options which go together are declared once.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from math import inf
from typing import Annotated, Any, get_args, get_type_hints

import typer

from brainage.cli.usage import CommandGroup

SCANS, COHORTS, LEARNING = "Scans", "Cohorts", "Learning"
MODELS, SERVING = "Models", "Serving"

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

app = typer.Typer(
    name="brainage",
    cls=CommandGroup,
    help="How old does this brain look? Research use only, never a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command in a panel of the help.

    Parameters
    ----------
    panel : str
        Heading under which ``brainage --help`` lists it.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        groups, parameters = _expand(function)

        @functools.wraps(function)
        def run(*, debug: bool, **values: Any) -> None:
            from brainage.workflows.console import clear_errors

            for name, (group, names) in groups.items():
                values[name] = group(**{key: values.pop(key) for key in names})
            with clear_errors(debug):
                function(**values)

        shown = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        app.command(rich_help_panel=panel)(run)
        return run

    return register


def _expand(
    function: Callable[..., None],
) -> tuple[dict[str, tuple[Callable[..., Any], list[str]]], list[Parameter]]:
    """Return groups by the parameter that takes them, and the single command-line parameters."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    parameters: list[Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            members = _members(kind)
            groups[parameter.name] = (hints[parameter.name], [member.name for member in members])
            parameters += members
        else:
            parameters.append(parameter.replace(annotation=kind))
    for parameter in parameters:
        kind, info = get_args(parameter.annotation)[:2]
        if kind in (float, float | None):
            info.parser = functools.partial(_parse_number, info.min, info.max)
    debug = Parameter("debug", Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption)
    return groups, [*parameters, debug]


def _parse_number(low: float | None, high: float | None, text: str | float) -> float:
    """Read the number of an option, whose decimal mark may be a comma."""
    try:
        number = float(str(text).replace(",", "."))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number") from error
    if not (-inf if low is None else low) <= number <= (inf if high is None else high):
        raise ValueError(f"{text} is not in the range {low} to {high}")
    return number


def _members(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
