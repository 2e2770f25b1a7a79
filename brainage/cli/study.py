"""`brainage study`: the paper's tables and figures, ours beside its numbers."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.images import DataRootOption
from brainage.cli.options import DebugOption, DeviceOption, TrackingOption


def study(
    name: Annotated[
        str | None, typer.Argument(help="Name of the study; without one, all are listed.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Reduced budget, in minutes; labelled so.")
    ] = False,
    data_root: DataRootOption = None,
    output: Annotated[Path, typer.Option("--output", help="Folder to write to.")] = Path("study"),
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML of this study instead of its own.")
    ] = None,
    device: DeviceOption = "auto",
    tracking_uri: TrackingOption = None,
    debug: DebugOption = False,
) -> None:
    """Reproduce a table or figure of the paper; finished runs in --output are not redone."""
    from brainage.workflows.console import clear_errors, say

    with clear_errors(debug):
        from brainage.workflows.research import load_program

        plan = load_program("pipelines.study.plan")
        if name is None:
            say(plan.list_studies())
            return
        plan.check_name(name)
        engine = load_program("pipelines.study.engine")
        options = engine.StudyOptions(output, data_root, quick, config, device, tracking_uri)
        engine.run_study(name, options)
