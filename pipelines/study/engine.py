"""`brainage study`: run a plan, resume it, and write table, picture and tracking.

A finished run is a JSON file under OUTPUT/runs and is not redone; its name holds a hash of its
settings, so that a changed study runs anew.
"""

import os
import shutil
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from brainage.errors import NonFiniteLossError
from brainage.files import atomic_write_text, parse_json, sha256_bytes
from brainage.images.sets import find_folder
from brainage.lfnn.rules import METHOD_RULES
from brainage.tracking import Run, Tracker
from brainage.types import Json
from brainage.workflows.benchmark import EXPERIMENT, default_data_root
from brainage.workflows.console import say, warn
from brainage.workflows.results import write_json
from pipelines.study.brain_scans import TABLE
from pipelines.study.catalogue import STUDIES
from pipelines.study.plan import (
    Case,
    QuickBudget,
    build_cases,
    describe_reduction,
    load_study,
)
from pipelines.study.records import CHECKPOINTS, Job, Outcome, Study, StudyOptions
from pipelines.study.redraw import CAPTION_WIDTH
from pipelines.study.table import REDUCED, Results, beside_paper, summarise, to_markdown


def run_study(name: str, options: StudyOptions) -> Results:
    """Run what is not done yet, then write NAME.csv, NAME.md and NAME.png.

    Raises
    ------
    ConfigError
        If the study is unknown or its settings are wrong; before any run.
    """
    config = load_study(name, options.config)
    study = STUDIES[name]
    cases = build_cases(config, options.quick)
    is_reduced = options.quick and config.quick != QuickBudget()
    budget = describe_budget(cases, study.trains) + describe_data(cases, options)
    if is_reduced:
        budget = f"{REDUCED}: {describe_reduction(config)}; {budget}"
    title = f"{name}: {config.title}" + (f" ({REDUCED})" if is_reduced else "")
    folder = options.output / "runs" / name
    if not options.resume:
        for old in (folder, *(options.output / CHECKPOINTS / case.name for case in cases)):
            shutil.rmtree(old, ignore_errors=True)
    kept = {case.name: load_record(folder / f"{case.name}.json") for case in cases}
    say(f"{budget}\n{describe_rest(list(kept.values()))}")
    tell_other_data(kept, data_place(options))
    tell_changed_data(kept, cases, options)
    tracker = Tracker(Path.cwd(), options.tracking_uri, experiment=EXPERIMENT, on_warning=warn)
    tags: dict[str, str | bool] = {"study": name, "reduced_budget": is_reduced}
    with tracker.start_run(f"study {name}", tags=tags, note=f"{title}\n\n{budget}") as parent:
        for number, case in enumerate(cases, start=1):
            record = kept[case.name] or run_case(case, study.job, options, tracker, parent)
            write_json(record, folder / f"{case.name}.json")
            kept[case.name] = record
            say(f"{number}/{len(cases)} {case.name}: {_brief(record, study.metrics)}")
            say(describe_rest(list(kept.values())))
        results = collect([record for record in kept.values() if record], study)
        picture = options.output / f"{name}.png"
        lines = [textwrap.fill(text, CAPTION_WIDTH) for text in (title, budget)]
        study.draw(results, picture, *lines)
        parent.log_figure(picture)
    command = f"brainage study {name}{' --quick' if options.quick else ''}"
    if options.config is not None:
        command += f" --config {options.config.name}"
    notes = [f"`{command}`. {budget}", config.note]
    markdown = to_markdown(
        results, title=title, notes=[note for note in notes if note], source=study.source
    )
    atomic_write_text(options.output / f"{name}.csv", results.table.to_csv(index=False))
    if not results.curves.empty:
        curves = results.curves.to_csv(index=False)
        atomic_write_text(options.output / f"{name}_curves.csv", curves)
    atomic_write_text(options.output / f"{name}.md", markdown)
    say(f"\n{markdown}\nwritten to {options.output}")
    return results


def data_place(options: StudyOptions) -> str:
    """Folder that the data are read from, as records name it."""
    return str((options.data_root or default_data_root()).resolve())


def tell_other_data(kept: Mapping[str, Json | None], place: str) -> None:
    """Warn of finished runs on data of another folder: a table would mix them."""
    known = [record["data_root"] for record in kept.values() if record and "data_root" in record]
    for other in sorted({*known} - {place}):
        told = f"{known.count(other)} finished runs are of data in {other}, not in {place}"
        warn(f"{told}: they stay in the table. --anew redoes all.")


def data_files(case: Case, options: StudyOptions) -> str:
    """Digest of the names and sizes of the files that a run's data set lies in."""
    root, images = options.data_root or default_data_root(), case.config.images
    folder = find_folder(images.dataset, root) if images else (root / TABLE).parent
    places = folder.iterdir() if folder.is_dir() else ()
    files = sorted((place.name, place.stat().st_size) for place in places if place.is_file())
    return sha256_bytes(repr(files).encode())[:16]


def tell_changed_data(
    kept: Mapping[str, Json | None], cases: Sequence[Case], options: StudyOptions
) -> None:
    """Warn of finished runs on files that were exchanged since: a table would mix them."""
    records = [(kept[case.name] or {}, case) for case in cases]
    known = [(record["data_files"], case) for record, case in records if "data_files" in record]
    changed = sum(files != data_files(case, options) for files, case in known)
    if changed:
        told = f"{changed} finished runs are of data whose files have changed since"
        warn(f"{told}: they stay in the table. --anew redoes all.")


def load_record(path: Path) -> Json | None:
    """Return the record of a finished run; None where there is none, or it cannot be read."""
    try:
        record: Json = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record


def run_case(case: Case, job: Job, options: StudyOptions, tracker: Tracker, parent: Run) -> Json:
    """Run one case, under its own name in MLflow, and return its record.

    A run whose loss leaves all bounds is a result too: it has a record without numbers.
    """
    params = case.config.model_dump(mode="json")
    tags = {key: str(value) for key, value in case.axes.items()} | {"seed": str(case.config.seed)}
    start = time.perf_counter()
    with tracker.start_run(case.name, tags=tags, params=params, parent=parent) as run:
        try:
            outcome = job(case, options)
        except NonFiniteLossError as error:
            warn(f"{case.name} diverged: {error.problem[:80]} …")
            outcome = Outcome({})
        run.log_metrics(outcome.metrics)
    return {
        "axes": dict(case.axes),
        "seed": case.config.seed,
        "seconds": time.perf_counter() - start,
        "data_root": data_place(options),
        "data_files": data_files(case, options),
        "metrics": dict(outcome.metrics),
        "curves": [dict(row) for row in outcome.curves],
    }


def collect(records: Sequence[Json], study: Study) -> Results:
    """Tabulate runs with the paper's numbers, and collect the rows of all curves."""
    runs = pd.DataFrame([r["axes"] | {"seed": r["seed"]} | r["metrics"] for r in records])
    axes = list(dict.fromkeys(axis for r in records for axis in r["axes"]))
    metrics = [metric for metric in study.metrics if metric in runs]
    runs[metrics] = runs[metrics].astype(float)
    table = beside_paper(summarise(runs, axes, metrics), study.reference, metrics)
    table = tell_families(table)
    curves = [r["axes"] | {"seed": r["seed"]} | row for r in records for row in r["curves"]]
    results = Results(table, tuple(axes), tuple(metrics), pd.DataFrame(curves))
    return results if study.refine is None else study.refine(results)


def tell_families(table: pd.DataFrame) -> pd.DataFrame:
    """Add the class of each row's method, where methods differ: what a block learns from."""
    if "method" not in table:
        return table
    families = [METHOD_RULES[name].family for name in table["method"]]
    return table.assign(family=families)


def describe_budget(cases: Sequence[Case], trains: bool) -> str:
    """Seeds, length of training and machine in one line."""
    parts = [f"{len(cases)} runs", f"seeds {_join(case.config.seed for case in cases)}"]
    if trains:
        training = [case.config.training for case in cases]
        epochs = _join(each.epochs for each in training if each.iterations is None)
        steps = _join(each.iterations for each in training if each.iterations is not None)
        parts += [f"{epochs} epochs at most"] * bool(epochs) + [f"{steps} steps"] * bool(steps)
        limits = [c.config.images.train_limit for c in cases if c.config.images]
        if any(limits):
            parts.append(f"{_join(limit for limit in limits if limit)} training images")
    parts.append(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    return ", ".join(parts) + "."


def describe_data(cases: Sequence[Case], options: StudyOptions) -> str:
    """Say which image data sets are not their publishers' pixels."""
    root = options.data_root or default_data_root()
    names = {case.config.images.dataset for case in cases if case.config.images}
    changed = [name for name in sorted(names) if (find_folder(name, root) / "train.npz").exists()]
    return f" Re-encoded as JPEG: {', '.join(changed)}." if changed else ""


def describe_rest(records: Sequence[Json | None]) -> str:
    """Say how many runs are to do, and how long they take where one was timed."""
    done = [record for record in records if record is not None]
    left, seconds = len(records) - len(done), [r["seconds"] for r in done if "seconds" in r]
    if not left:
        return "all runs are done"
    time_left = f", about {left * median(seconds) / 60:.0f} min" if seconds else ""
    return f"{left} of {len(records)} runs to do{time_left}"


def _join(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(set(numbers)))


def _brief(record: Json, metrics: Sequence[str]) -> str:
    values = record["metrics"]
    shown = [f"{name} {values[name]:.4g}" for name in metrics if values.get(name) is not None]
    return ", ".join(shown) or "diverged"
