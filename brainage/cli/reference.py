"""Write the page of all commands, docs/reference/cli.md: ``make docs`` runs this module.

Reads the commands' signatures, not Typer's inner classes, which change between its versions.
"""

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo

_HEAD = """# Command line

Made from the code by `make docs`; `brainage COMMAND --help` says the same. Exit codes: 0 done,
2 bad input or a scan that failed (one line says why and what to do), 130 interrupted.
"""
_WORDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def render_reference() -> str:
    """Every command with its arguments and options, as Markdown."""
    import brainage.cli.main  # noqa: F401  registers the commands
    from brainage.cli.command import app

    commands: dict[str, Callable[..., Any]] = {}
    for item in app.registered_commands:
        assert item.callback is not None
        commands[item.name or item.callback.__name__.replace("_", "-")] = item.callback
    names = sorted(commands)
    index = "\n".join(f"- [{name}](#brainage-{name})" for name in names)
    return "\n".join([_HEAD, index, "", *(_section(name, commands[name]) for name in names)])


def _section(name: str, command: Callable[..., Any]) -> str:
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        (*_split(hints[parameter.name]), parameter)
        for parameter in inspect.signature(command).parameters.values()
    ]
    arguments = [item for item in parameters if isinstance(item[1], ArgumentInfo)]
    options = [item for item in parameters if not isinstance(item[1], ArgumentInfo)]
    usage = " ".join(
        ["brainage", name, "[OPTIONS]", *(str(info.metavar) for _, info, _ in arguments)]
    )
    rows = [f"| `{info.metavar}` | {_cell(info.help)} | |" for _, info, _ in arguments]
    rows += [_option_row(kind, info, parameter) for kind, info, parameter in options]
    help_text = " ".join((inspect.getdoc(command) or "").split())
    table = ["| option | | default |", "|---|---|---|", *rows]
    return "\n".join([f"## brainage {name}", "", help_text, "", f"`{usage}`", "", *table, ""])


def _split(hint: Any) -> tuple[Any, Any]:
    """Type and Typer's description of an annotated parameter."""
    kind, info = get_args(hint)[:2]
    return kind, info


def _option_row(kind: Any, info: Any, parameter: inspect.Parameter) -> str:
    # In an annotation Typer keeps the first name where a default would be.
    names = [name for name in (info.default, *info.param_decls) if str(name).startswith("--")]
    flag = names[0] if names else f"--{parameter.name.replace('_', '-')}"
    word, many = _word(kind)
    shown = " ".join(part for part in (flag, word, "…" if many else "") if part)
    default = _default(parameter.default)
    if isinstance(info.show_default, str):
        default = info.show_default
    return f"| `{shown}` | {_cell(info.help)} | {default} |"


def _word(kind: Any) -> tuple[str, bool]:
    """Return what follows an option, and whether it may be repeated."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(item for item in get_args(kind) if item is not type(None))
    if get_origin(kind) is list:
        return _word(get_args(kind)[0])[0], True
    if get_origin(kind) is Literal:
        return "\\|".join(get_args(kind)), False
    return _WORDS.get(kind, ""), False


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "needed"
    # By identity: a seed of 0 equals False.
    return "" if value is None or value is False or value == "" else f"`{value}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    print(render_reference(), end="")
