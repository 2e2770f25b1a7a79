"""Commands on raw scans: `prepare` and `fetch-cohort`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import (
    CacheOption,
    CohortOption,
    ColumnOption,
    ConfigOption,
    DebugOption,
    ExtractionOption,
    JobsOption,
    MaskOption,
    OutputOption,
    PresetOption,
    SeriesOption,
    SetOption,
    SkipBadOption,
    WhereOption,
    build_cohort_options,
)


def prepare(
    cohort: CohortOption,
    output: OutputOption,
    spacing_mm: Annotated[
        float, typer.Option("--spacing-mm", min=0.5, max=8.0, help="Voxels of the volumes.")
    ] = 2.0,
    jobs: JobsOption = 1,
    engine: Annotated[
        str | None, typer.Option("--engine", help="serial, processes (with --jobs) or dask.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a dask scheduler.")
    ] = None,
    memory_mb: Annotated[
        int, typer.Option("--memory-mb", min=1024, help="Most memory for one scan.")
    ] = 4096,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=1.0, help="Most seconds for one scan.")
    ] = 900.0,
    mask: MaskOption = "",
    brain_extraction_command: ExtractionOption = "",
    series: SeriesOption = None,
    age_from_dicom: Annotated[
        bool, typer.Option("--age-from-dicom", help="Take PatientAge where the table has no age.")
    ] = False,
    preset: PresetOption = "cnn3d_light",
    config: ConfigOption = None,
    set_: SetOption = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    cache: CacheOption = None,
    debug: DebugOption = False,
) -> None:
    """Bring raw scans to MNI space, with a verdict and a picture for each.

    Exit code 2 if any scan failed and --skip-bad is off; the others are written all the same.
    """
    from brainage.workflows.console import BAD_INPUT, clear_errors

    with clear_errors(debug):
        from brainage.errors import ConfigError
        from brainage.sandbox.engines import ENGINES, Engine
        from brainage.sandbox.parent import Limits
        from brainage.workflows import prepare as job
        from brainage.workflows.settings import resolve_config

        kind = engine or ("processes" if jobs > 1 else "serial")
        if kind not in ENGINES:
            raise ConfigError("--engine", f"unknown engine {kind!r}.", f"Use {', '.join(ENGINES)}.")
        changes = {"preprocessing.series": series}
        settings = resolve_config(preset, config, changes, set_ or []).preprocessing
        threads = max(1, (os.cpu_count() or 1) // jobs) if kind != "dask" else 1
        failed = job.prepare(
            build_cohort_options(cohort, where, column, skip_bad, cache),
            settings.on_grid(spacing_mm, job.FIELD_MM),
            job.PrepareOptions(
                Path(output),
                Engine(kind, jobs, scheduler, Limits(memory_mb, timeout_s, threads)),
                mask,
                brain_extraction_command,
                age_from_dicom,
            ),
        )
        if failed and not skip_bad:
            raise typer.Exit(BAD_INPUT)
