"""The command `report`."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import AnyModelOption, DebugOption, LevelOption, SeriesOption


def report(
    scan: Annotated[
        str | None, typer.Argument(metavar="[SCAN]", help="T1 scan: file, DICOM folder or zip.")
    ] = None,
    model: AnyModelOption = None,
    output: Annotated[
        Path, typer.Option("--output", help="Path without suffix; .html, .pdf and .json are added.")
    ] = Path("report"),
    age: Annotated[float | None, typer.Option("--age", help="Age at scan, for the gap.")] = None,
    sex: Annotated[str, typer.Option("--sex", help="Kept in the JSON file.")] = "",
    name: Annotated[
        str, typer.Option("--name", help="Name to print on this report; else it has none.")
    ] = "",
    map_: Annotated[
        str,
        typer.Option("--map", help="Add a map: smoothgrad, integrated_gradients or occlusion."),
    ] = "",
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Table of `predict` instead of a scan; no pictures."),
    ] = None,
    scan_id: Annotated[str | None, typer.Option("--scan-id", help="Row of --predictions.")] = None,
    series: SeriesOption = None,
    level: LevelOption = 0.9,
    debug: DebugOption = False,
) -> None:
    """Write a one-page report on a scan: HTML, PDF and JSON. Exit code 2 if the scan fails."""
    from brainage.workflows.console import BAD_INPUT, clear_errors

    with clear_errors(debug):
        from brainage.errors import ConfigError
        from brainage.workflows import report as job

        options = {
            "age_years": age,
            "sex": sex,
            "person_name": name,
            "level": level,
            "map_method": map_,
            "series": series,
        }
        if (scan is None) == (predictions is None) or (predictions is None) != (scan_id is None):
            raise ConfigError("report", "give either SCAN, or --predictions with --scan-id.")
        if scan is not None:
            found = job.write_report(scan, output, model, **options)
        else:
            assert predictions is not None and scan_id is not None
            found = job.report_prediction(predictions, scan_id, output, model, **options)
        if found.verdict == "failed":
            raise typer.Exit(BAD_INPUT)
