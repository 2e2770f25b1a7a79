"""`brainage study`: run a plan, resume it, and write table, picture and tracking.

A finished run is a JSON file under OUTPUT/runs and is not redone; its name holds a hash of its
settings, so that a changed study runs anew.
"""

import importlib
import os
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

from brainage.files import atomic_write_text, parse_json
from brainage.tracking import Run, Tracker
from brainage.types import Json
from brainage.workflows.benchmark import EXPERIMENT
from brainage.workflows.console import say, warn
from brainage.workflows.results import write_json
from pipelines.study.draw import Draw
from pipelines.study.plan import Case, QuickBudget, build_cases, load_study
from pipelines.study.reference import Row
from pipelines.study.table import REDUCED, Results, beside_seed, summarise, to_markdown

CAPTION_WIDTH = 80


@dataclass(frozen=True)
class StudyOptions:
    """What the command line says beside the study's name."""

    output: Path
    data_root: Path | None = None
    quick: bool = False
    config: Path | None = None
    device: str = "auto"
    tracking_uri: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run gives: numbers for the table, and rows for curves (`line`, x, `value`)."""

    metrics: Mapping[str, float | None]
    curves: Sequence[Mapping[str, object]] = field(default_factory=tuple)


Job = Callable[[Case, StudyOptions], Outcome]


@dataclass(frozen=True)
class Study:
    """The constant STUDY of a module of this package.

    Attributes
    ----------
    job : callable
        From one case to its outcome.
    metrics : sequence of str
        Columns of the table, in order; the first is the one that counts.
    draw : callable
        The picture.
    reference : sequence of mapping
        The seed's numbers, under the same names of axes and metrics.
    trains : bool
        Whether a network is trained, so that the number of epochs means something.
    refine : callable, optional
        Adds columns to the table, such as differences that are paired scan by scan.
    """

    job: Job
    metrics: Sequence[str]
    draw: Draw
    reference: Sequence[Row] = ()
    trains: bool = True
    refine: Callable[[Results], Results] | None = None


def load_module(name: str) -> Study:
    """Return the STUDY of a module of this package."""
    study: Study = importlib.import_module(f"pipelines.study.{name}").STUDY
    return study


def run_study(name: str, options: StudyOptions) -> Results:
    """Run what is not done yet, then write NAME.csv, NAME.md and NAME.png.

    Raises
    ------
    ConfigError
        If the study is unknown or its settings are wrong; before any run.
    """
    config = load_study(name, options.config)
    study = load_module(name)
    cases = build_cases(config, options.quick)
    is_reduced = options.quick and config.quick != QuickBudget()
    budget = describe_budget(cases, study.trains, is_reduced)
    title = f"{name}: {config.title}" + (f" ({REDUCED})" if is_reduced else "")
    say(budget)
    tracker = Tracker(Path.cwd(), options.tracking_uri, experiment=EXPERIMENT, on_warning=warn)
    tags: dict[str, str | bool] = {"study": name, "reduced_budget": is_reduced}
    folder = options.output / "runs" / name
    with tracker.start_run(f"study {name}", tags=tags, note=f"{title}\n\n{budget}") as parent:
        records, started, trained = [], time.monotonic(), 0
        for number, case in enumerate(cases, start=1):
            path = folder / f"{case.name}.json"
            record = load_record(path)
            if record is None:
                record, trained = run_case(case, study.job, options, tracker, parent), trained + 1
            write_json(record, path)
            records.append(record)
            left = describe_left(time.monotonic() - started, trained, len(cases) - number)
            say(f"{number}/{len(cases)} {case.name}: {_brief(record, study.metrics)}{left}")
        results = collect(records, study)
        picture = options.output / f"{name}.png"
        study.draw(results, picture, title, textwrap.fill(budget, CAPTION_WIDTH))
        parent.log_figure(picture)
    notes = [f"`brainage study {name}{' --quick' if options.quick else ''}`. {budget}", config.note]
    markdown = to_markdown(results, title=title, notes=[note for note in notes if note])
    atomic_write_text(options.output / f"{name}.csv", results.table.to_csv(index=False))
    atomic_write_text(options.output / f"{name}.md", markdown)
    say(f"\n{markdown}\nwritten to {options.output}")
    return results


def describe_left(seconds: float, trained: int, left: int) -> str:
    """Say how long the runs that are left take if they take as long as those before.

    Examples
    --------
    >>> describe_left(120.0, 2, 5)
    '; about 5 min left'
    """
    if not trained or not left:
        return ""
    return f"; about {max(1, round(seconds / trained * left / 60))} min left"


def load_record(path: Path) -> Json | None:
    """Return the record of a finished run; None where there is none, or it cannot be read."""
    try:
        record: Json = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record


def run_case(case: Case, job: Job, options: StudyOptions, tracker: Tracker, parent: Run) -> Json:
    """Run one case, under its own name in MLflow, and return its record."""
    params = case.config.model_dump(mode="json")
    tags = {key: str(value) for key, value in case.axes.items()} | {"seed": str(case.config.seed)}
    with tracker.start_run(case.name, tags=tags, params=params, parent=parent) as run:
        outcome = job(case, options)
        run.log_metrics(outcome.metrics)
    return {
        "axes": dict(case.axes),
        "seed": case.config.seed,
        "metrics": dict(outcome.metrics),
        "curves": [dict(row) for row in outcome.curves],
    }


def collect(records: Sequence[Json], study: Study) -> Results:
    """Tabulate runs with the paper's numbers, and collect the rows of all curves."""
    runs = pd.DataFrame([r["axes"] | {"seed": r["seed"]} | r["metrics"] for r in records])
    axes = list(dict.fromkeys(axis for r in records for axis in r["axes"]))
    metrics = [metric for metric in study.metrics if metric in runs]
    runs[metrics] = runs[metrics].astype(float)
    table = beside_seed(summarise(runs, axes, metrics), study.reference, metrics)
    curves = [r["axes"] | {"seed": r["seed"]} | row for r in records for row in r["curves"]]
    results = Results(table, tuple(axes), tuple(metrics), pd.DataFrame(curves))
    return results if study.refine is None else study.refine(results)


def describe_budget(cases: Sequence[Case], trains: bool, is_reduced: bool) -> str:
    """Seeds, epochs and machine in one line, "reduced budget" first where it is one."""
    parts = [f"{len(cases)} runs", f"seeds {_join(case.config.seed for case in cases)}"]
    if trains:
        parts.append(f"{_join(case.config.training.epochs for case in cases)} epochs at most")
        limits = [c.config.images.train_limit for c in cases if c.config.images]
        if any(limits):
            parts.append(f"{_join(limit for limit in limits if limit)} training images")
    parts.append(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    return (f"{REDUCED}: " if is_reduced else "") + ", ".join(parts) + "."


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(set(numbers)))


def _brief(record: Json, metrics: Sequence[str]) -> str:
    values = record["metrics"]
    shown = [f"{name} {values[name]:.4g}" for name in metrics if values.get(name) is not None]
    return ", ".join(shown)
