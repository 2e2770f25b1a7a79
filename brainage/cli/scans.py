"""Commands on single scans: `predict`, `report`, `explain`, `selftest`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from brainage.cli.command import SCANS, command
from brainage.cli.options import (
    AnyModelOption,
    Extraction,
    LevelOption,
    OutputOption,
    ScansOrCohort,
    SeriesOption,
)


@command(SCANS)
def predict(
    source: ScansOrCohort,
    output: Annotated[
        Path, typer.Option("--output", help="Table to write; the ledger lies beside it.")
    ] = Path("predictions.csv"),
    series: SeriesOption = None,
    level: LevelOption = 0.9,
    ages: Annotated[
        Path | None,
        typer.Option("--ages", help="Table of the scans' ages, such as participants.tsv."),
    ] = None,
    extraction: Extraction = Extraction(),
) -> None:
    """Predict the age of scans. Exit code 2 if any scan failed; the others are written."""
    from brainage.workflows.console import parse_pairs
    from brainage.workflows.inputs import check_ages

    check_ages(ages, source.cohort)
    chosen = source.inputs()
    columns = parse_pairs(source.column or [], "--column") if ages else None
    from brainage.workflows import predict as job

    how = extraction.options()
    options = job.PredictOptions(level, series, source.cache, how, ages, columns)
    if job.predict(chosen, source.model, output, options):
        raise typer.Exit(2)


@command(SCANS)
def report(
    scan: Annotated[
        str | None,
        typer.Argument(metavar="SCAN", help="T1 scan: file, DICOM folder or zip; or sample."),
    ] = None,
    model: AnyModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Path without suffix; .html, .pdf and .json are added.",
            show_default="./brainage-CODE-DATE",
        ),
    ] = None,
    age: Annotated[
        float | None, typer.Option("--age", min=0, max=120, help="Age at scan, for the gap.")
    ] = None,
    sex: Annotated[str, typer.Option("--sex", help="Printed as given, such as F.")] = "",
    name: Annotated[
        str, typer.Option("--name", help="Name to print on this report; else it has none.")
    ] = "",
    study_id: Annotated[
        str, typer.Option("--study-id", help="Printed, and part of the files' names.")
    ] = "",
    scan_date: Annotated[str, typer.Option("--scan-date", help="Printed as given.")] = "",
    map_: Annotated[
        Literal["integrated_gradients", "occlusion", "smoothgrad", "none"],
        typer.Option("--map", help="Map of what makes this brain look older or younger."),
    ] = "integrated_gradients",
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Table of `predict` instead of a scan; no pictures."),
    ] = None,
    scan_id: Annotated[str | None, typer.Option("--scan-id", help="Row of --predictions.")] = None,
    series: SeriesOption = None,
    level: LevelOption = 0.9,
    orientation: Annotated[
        Literal["radiological", "neurological"],
        typer.Option("--orientation", help="Patient's left on the right, or on the left."),
    ] = "radiological",
    dicom_output: Annotated[
        Path | None,
        typer.Option("--dicom-output", help="Folder for the results as DICOM, of a DICOM scan."),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            "--earlier", help="JSON of a report on an earlier scan of this person. Repeatable."
        ),
    ] = None,
) -> None:
    """Write a one-page report on a scan: HTML, PDF and JSON. Exit code 2 if the scan fails."""
    from brainage.errors import ConfigError
    from brainage.extras import check_extra
    from brainage.workflows.inputs import check_model, check_scans, check_table

    if (scan is None) == (predictions is None) or (predictions is None) != (scan_id is None):
        raise ConfigError("report", "give either SCAN, or --predictions with --scan-id.")
    if dicom_output is not None and scan is None:
        raise ConfigError("--dicom-output", "needs a scan: results belong to its DICOM series.")
    check_model(model)
    check_scans([scan] if scan else [])
    check_extra("typst", "report")
    if predictions is not None:
        check_table(predictions)

    from brainage.workflows import report as job

    options = {
        "age_years": age,
        "sex": sex,
        "person_name": name,
        "study_id": study_id,
        "scan_date": scan_date,
        "level": level,
        "map_method": "" if map_ == "none" else map_,
        "series": series,
        "orientation": orientation,
        "dicom_output": dicom_output,
        "earlier": earlier or (),
    }
    if scan is not None:
        found = job.write_report(scan, output, model, **options)
    else:
        assert predictions is not None and scan_id is not None
        found = job.report_prediction(predictions, scan_id, output, model, **options)
    if found.verdict == "failed":
        raise typer.Exit(2)


@command(SCANS)
def explain(
    source: ScansOrCohort,
    output: OutputOption,
    method: Annotated[
        str,
        typer.Option("--method", help="integrated_gradients, occlusion or smoothgrad; by commas."),
    ] = "integrated_gradients",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of noise and check.")] = 0,
) -> None:
    """Map what makes a brain look older or younger to the network, and check the map."""
    from brainage.types import MAP_METHODS
    from brainage.workflows.inputs import check_choices

    methods = check_choices("--method", method, MAP_METHODS)
    chosen = source.inputs()
    from brainage.workflows import explain as job

    job.explain(
        chosen,
        output,
        model=source.model,
        methods=methods,
        seed=seed,
        cache=source.cache,
    )


@command(SCANS)
def selftest(model: AnyModelOption = None) -> None:
    """Predict a built-in phantom and compare with what the model's release gave."""
    from brainage.workflows.inputs import check_model

    check_model(model)
    from brainage.workflows import release as job

    job.selftest(model)
