"""Commands on cohorts: `prepare`, `fetch`, `phantoms`, and the ones that judge predictions."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from brainage.cli.command import COHORTS, command
from brainage.cli.options import (
    AnyModelOption,
    CacheOption,
    CohortOption,
    ColumnOption,
    ConfigOption,
    DataRootOption,
    Extraction,
    JoinedCohort,
    LevelOption,
    ModelOption,
    NamedCohort,
    OutputOption,
    PresetOption,
    SeriesOption,
    SetOption,
    SkipBadOption,
    WhereOption,
    read_cohort_options,
)

PredictionsOption = Annotated[
    Path, typer.Option("--predictions", help="Table that `train` or `predict` wrote.")
]
PredictionTables = Annotated[
    list[Path],
    typer.Option("--predictions", help="Table of `train` or `predict`. May be repeated."),
]


@command(COHORTS)
def prepare(
    source: NamedCohort,
    output: OutputOption,
    spacing_mm: Annotated[
        float, typer.Option("--spacing-mm", min=0.5, max=8.0, help="Voxels of the volumes.")
    ] = 2.0,
    engine: Annotated[
        Literal["serial", "processes", "dask"] | None,
        typer.Option("--engine", help="Where scans are prepared.", show_default="by --jobs"),
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
    extraction: Extraction = Extraction(),
    series: SeriesOption = None,
    age_from_dicom: Annotated[
        bool, typer.Option("--age-from-dicom", help="Take PatientAge where the table has no age.")
    ] = False,
    preset: PresetOption = "cnn3d_light",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Bring raw scans to MNI space, with a verdict and a picture for each.

    Exit code 2 if any scan failed and --skip-bad is off, or if none can be used; what can be used
    is written all the same.
    """
    from brainage.extras import check_extra
    from brainage.workflows.settings import resolve_config

    cohort = source.options()
    changes = {"preprocessing.series": series}
    settings = resolve_config(preset, config, changes, set_ or [])
    jobs = extraction.jobs
    kind = engine or ("processes" if jobs > 1 else "serial")
    if kind == "dask":
        check_extra("distributed", "cluster")

    from brainage.sandbox.engines import Engine
    from brainage.sandbox.parent import Limits
    from brainage.workflows import prepare as job

    threads = max(1, (os.cpu_count() or 1) // jobs) if kind != "dask" else 1
    ledger = job.prepare(
        cohort,
        output,
        settings,
        spacing_mm=spacing_mm,
        engine=Engine(kind, jobs, scheduler, Limits(memory_mb, timeout_s, threads)),
        mask=extraction.mask,
        command=extraction.brain_extraction_command,
        age_from_dicom=age_from_dicom,
    )
    failed = ledger["verdict"] == "failed"
    if failed.all() or (failed.any() and not source.skip_bad):
        raise typer.Exit(2)


@command(COHORTS)
def bids(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="BIDS data set.")],
    output_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder to write to.")],
    analysis_level: Annotated[
        Literal["participant", "group"],
        typer.Argument(metavar="LEVEL", help="participant, then group."),
    ],
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABEL]...", help="More labels, after --participant-label."),
    ] = None,
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label", "--participant_label", help="Participants; all without it."
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option("--session-label", "--session_label", help="Session. May be repeated."),
    ] = None,
    model: AnyModelOption = None,
    level: LevelOption = 0.9,
    cache: CacheOption = None,
) -> None:
    """Run as a BIDS App: volumes and a report for each scan, then one table of all.

    Exit code 2 if any scan failed; the others are written.
    """
    from brainage.errors import ConfigError
    from brainage.extras import check_extra
    from brainage.workflows.inputs import check_cohort, check_model

    if labels and not participant_label:
        raise ConfigError(labels[0], "is one argument too many.", "Did you mean a label?")
    if analysis_level == "group":
        from brainage.workflows import bids as job

        job.run_group(output_dir)
        return
    check_cohort(str(bids_dir))
    check_model(model)
    check_extra("typst", "report")
    from brainage.workflows import bids as job

    chosen = [*(participant_label or []), *(labels or [])]
    options = job.BidsOptions(chosen, session_label or [], level, cache)
    if job.run_participants(bids_dir, output_dir, model, options):
        raise typer.Exit(2)


@command(COHORTS)
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set to download.")],
    data_root: DataRootOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder of a cohort.", show_default="its name"),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept the size and the terms of a cohort.")
    ] = False,
    base_url: Annotated[
        str, typer.Option("--base-url", help="Take a cohort's files from here instead.")
    ] = "",
) -> None:
    """Download a public data set: images, or the cohorts ixi and oasis1 as BIDS. Can go on."""
    if name in ("ixi", "oasis1"):
        from brainage.workflows import fetch_cohorts

        fetch_cohorts.fetch(name, output or Path(name), accepted=yes, base_url=base_url)
        return
    from brainage.workflows import benchmark

    benchmark.fetch(name, data_root)


@command(COHORTS)
def phantoms(
    output: OutputOption,
    subjects: Annotated[int, typer.Option("--subjects", min=1, help="People to make.")] = 24,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the cohort.")] = 0,
) -> None:
    """Write a synthetic cohort with the folder structure of a real one."""
    from brainage.cohorts.phantom import write_phantom_cohort
    from brainage.files import hold_folder
    from brainage.workflows.console import say

    with hold_folder(output):
        say(f"written to {write_phantom_cohort(output, subjects, seed)}")


@command(COHORTS)
def evaluate(
    output: OutputOption,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Table with ages and predictions.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model to evaluate: folder or models:/NAME@ALIAS.")
    ] = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Cohort with ages, for --model.")
    ] = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    skip_bad: SkipBadOption = False,
    level: LevelOption = 0.9,
    correct_bias: Annotated[
        Literal["beheshti", "de_lange", "cole"] | None,
        typer.Option("--correct-bias", help="Add a corrected gap."),
    ] = None,
    controls: Annotated[
        str | None, typer.Option("--controls", help="Filter of scans to fit the correction on.")
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Write metrics and pictures of predictions, or of a model on scans it has not seen."""
    from brainage.workflows.inputs import check_evaluated

    of_model = {"model": model, "cohort": cohort, "where": where, "column": column}
    check_evaluated(predictions, of_model | {"skip-bad": skip_bad})
    options = None
    if cohort is not None:
        options = read_cohort_options(cohort, where, column, skip_bad=skip_bad, cache=cache)
    from brainage.workflows import evaluate as job

    source = job.choose_source(predictions, model, options)
    correction = job.parse_correction(correct_bias, controls)
    job.evaluate(source, output, cohort=options, level=level, correction=correction)


@command(COHORTS)
def versus(
    own: Annotated[Path, typer.Argument(metavar="TABLE", help="Predictions of your model.")],
    predictions: Annotated[
        list[Path],
        typer.Option("--predictions", help="Another model's, on the same scans. Repeatable."),
    ],
    output: OutputOption,
) -> None:
    """Set a model's predictions beside other models' on the same scans, paired."""
    from brainage.workflows.inputs import check_table

    for path in (own, *predictions):
        check_table(path)
    from brainage.workflows import versus as job

    job.versus(own, predictions, output)


@command(COHORTS)
def volumes(
    cohort: CohortOption,
    output: OutputOption,
    where: WhereOption = None,
    column: ColumnOption = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Scans measured at a time.")] = 1,
    cache: CacheOption = None,
) -> None:
    """Measure grey matter, white matter, fluid and ventricles of a cohort's scans."""
    source = read_cohort_options(cohort, where, column, cache=cache)
    from brainage.workflows import volumes as job

    job.volumes(source, output, jobs)


@command(COHORTS)
def groups(
    predictions: PredictionTables,
    group: Annotated[str, typer.Option("--group", help='Cases: "CDR > 0", or a column.')],
    output: OutputOption,
    joined: JoinedCohort = JoinedCohort(),
) -> None:
    """Compare the gap, and plain measures beside it, between cases and controls."""
    cohort = joined.options(predictions)
    from brainage.workflows import groups as job

    job.groups(predictions, group, output, cohort, joined.measure or [])


@command(COHORTS)
def associate(
    predictions: PredictionTables,
    covariate: Annotated[
        list[str],
        typer.Option("--covariate", help="Column of numbers, such as MMSE. May be repeated."),
    ],
    output: OutputOption,
    joined: JoinedCohort = JoinedCohort(),
) -> None:
    """Relate the gap to a covariate, with age, age², sex and site, by robust errors."""
    cohort = joined.options(predictions)
    from brainage.workflows import groups as job

    job.associations(predictions, covariate, output, cohort, joined.measure or [])


@command(COHORTS)
def longitudinal(
    predictions: PredictionTables,
    output: OutputOption,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Cohort whose columns are joined by scan id.")
    ] = None,
    where: WhereOption = None,
    column: ColumnOption = None,
    time: Annotated[
        str,
        typer.Option("--time", help="Column of the scans' times in years, if ages are rounded."),
    ] = "age_years",
    within_sd: Annotated[
        float | None, typer.Option("--within-sd", min=0, help="From `reliability`, years.")
    ] = None,
    retests: Annotated[
        Path | None, typer.Option("--retests", help="Predictions of retests, instead.")
    ] = None,
    retest_years: Annotated[
        float, typer.Option("--retest-years", min=0, help="Most years between two retests.")
    ] = 0.5,
) -> None:
    """Estimate the change of the gap per year, and what change can be detected in a person."""
    from brainage.errors import ConfigError
    from brainage.workflows.inputs import check_table

    if within_sd is not None and retests is not None:
        raise ConfigError("longitudinal", "give either --within-sd or --retests.")
    if within_sd == 0:
        raise ConfigError("--within-sd", "0 years would make every change more than chance.")
    options = JoinedCohort(cohort, None, where, column).options(predictions)
    if retests is not None:
        check_table(retests)
    from brainage.workflows import longitudinal as job

    chosen = job.ChangeOptions(time, within_sd, retests, retest_years)
    job.longitudinal(predictions, output, options, chosen)


@command(COHORTS)
def reliability(
    predictions: PredictionsOption,
    output: OutputOption,
    joined: JoinedCohort = JoinedCohort(),
    max_years: Annotated[
        float, typer.Option("--max-years", min=0, help="Most years between two scans.")
    ] = 1.0,
) -> None:
    """Measure how well age and gap repeat: ICC(2,1), Bland-Altman, smallest detectable change."""
    cohort = joined.options([predictions])
    from brainage.workflows import groups as job

    job.reliability(predictions, output, cohort, joined.measure or [], max_years)


@command(COHORTS)
def calibrate(model: ModelOption, source: NamedCohort, output: OutputOption) -> None:
    """Fit offset and intervals to 20 or more healthy controls of your own scanner."""
    from brainage.workflows.inputs import check_model

    check_model(model)
    cohort = source.options()
    from brainage.workflows import calibrate as job

    job.calibrate(model, cohort, output)


@command(COHORTS)
def finetune(
    model: ModelOption,
    source: NamedCohort,
    output: OutputOption,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the folds.")] = 0,
) -> None:
    """Train a model's read-outs further on 30 or more people of your own, and tell the gain."""
    from brainage.workflows.inputs import check_model

    check_model(model)
    cohort = source.options()
    from brainage.workflows import finetune as job

    job.finetune(model, cohort, output, seed)
