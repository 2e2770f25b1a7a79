"""A wrong command line is told in one line, as every other error is."""

import sys
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup


class CommandGroup(TyperGroup):
    """Commands whose usage errors are one line with exit code 2, not a box of several."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; without any argument it shows the help."""
        how = (complete_var, standalone_mode, windows_expand_args)
        if not standalone_mode or not (sys.argv[1:] if args is None else args):
            return super().main(args, prog_name, *how, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            # Typer brings its own copy of click since 0.26: told by what it can do, not by class.
            if not hasattr(error, "format_message"):
                raise
            print(f"error: {_explain(error)}", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", 2))
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Any) -> str:
    message = " ".join(error.format_message().split())
    message += "" if message.endswith((".", "?")) else "."
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "brainage"
    return f"{message} See {command} --help."
