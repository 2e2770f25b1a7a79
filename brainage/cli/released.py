"""Commands for the model that travels with the package."""

from typing import Annotated

import typer

from brainage.cli.options import AnyModelOption, DebugOption, ModelOption, OutputOption


def release(
    model: ModelOption,
    output: OutputOption,
    note: Annotated[str, typer.Option("--note", help="A line for the model card.")] = "",
    debug: DebugOption = False,
) -> None:
    """Make a trained model small enough to travel: half precision, and a self-test."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import release as job

        job.release(model, output, note)


def selftest(
    model: AnyModelOption = None,
    debug: DebugOption = False,
) -> None:
    """Predict a built-in phantom and compare with what the model's release gave."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import release as job

        job.selftest(model)
