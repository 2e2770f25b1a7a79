"""`brainage speed`: candidates take turns; one table, one picture, one tracked run."""

import multiprocessing
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from brainage.cohorts.splits import Split
from brainage.config import Config, with_changes
from brainage.errors import ConfigError
from brainage.files import atomic_write_text
from brainage.model.build import block_count
from brainage.model.bundle import git_commit
from brainage.tracking import SPEED_BARS, Run, Tracker, log_overview
from brainage.training.options import TrainOptions
from brainage.training.processes import end_with_parent
from brainage.training.run import PreparedCohort
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.console import say, warn
from brainage.workflows.crossval import plan_runs
from brainage.workflows.results import write_json, write_table
from pipelines.speed import distributed, single
from pipelines.speed.plan import Candidate, Plan, load_plan
from pipelines.speed.rounds import (
    compare_ends,
    draw_rounds,
    pool_rounds,
    rounds_to_markdown,
    tabulate_baselines,
    tabulate_rounds,
)
from pipelines.speed.runs import SCHEDULES, Measurement, RunSettings, resolve_config
from pipelines.speed.summary import (
    COLUMNS,
    Result,
    draw,
    overview_tables,
    summarise,
    tabulate_curves,
    tabulate_runs,
    to_markdown,
)

EXPERIMENT = "speed"


@dataclass(frozen=True)
class SpeedOptions:
    """Options of the command beside the plan."""

    plan: str
    output: Path
    quick: bool = False
    config: Path | None = None
    cohort: CohortOptions | None = None
    folds: int = 5
    device: str = "cpu"
    tracking_uri: str | None = None
    overwrite: bool = False


def run_benchmark(options: SpeedOptions) -> list[Result]:
    """Run every case of a plan, then write speed.csv, summary.csv, speed.md and speed.png.

    Raises
    ------
    ConfigError
        If the plan is wrong, or trains and no cohort is given.
    """
    if (options.output / "speed.csv").exists() and not options.overwrite:
        problem, remedy = "already holds a benchmark.", "Use --overwrite, or another --output."
        raise ConfigError(str(options.output), problem, remedy)
    plan = load_plan(options.plan, options.config)
    plan = plan.shortened() if options.quick else plan
    machine = describe_machine(plan.threads, options.device)
    say(f"{plan.title}{' (quick: a check, no measurement)' if options.quick else ''}\n{machine}")
    prepared = _load_cohort(plan, options)
    tracker = Tracker(Path.cwd(), options.tracking_uri, experiment=EXPERIMENT, on_warning=warn)
    results: list[Result] = []
    tags: dict[str, str | bool] = {"plan": options.plan, "quick": options.quick}
    tags["machine"] = machine
    with tracker.start_run(f"speed {options.plan}", tags=tags, note=plan.note) as parent:
        for case, changes in plan.cases.items():
            config = with_changes(plan.config, changes, f"cases.{case}")
            settings = _build_settings(config, plan, prepared, options)
            for found in run_case(case, plan.candidates, settings, plan.repeats):
                results += found
                _write_tables(results, plan, options.output)  # kept if the benchmark is ended
        baselines = None
        if prepared is not None:
            splits = _plan_splits(plan.config, plan, prepared, options)
            baselines = tabulate_baselines(prepared, splits, options.folds)
        _write(results, plan, options, machine, parent, baselines)
    return results


def run_case(
    case: str, candidates: Sequence[Candidate], settings: RunSettings, repeats: int
) -> Iterator[list[Result]]:
    """Run one case: in each repeat each candidate once, another one first each time.

    Each candidate has a process of its own that waits while others run: its memory is its own.
    """
    checked = {one.name: check_candidate(one, settings) for one in candidates}
    with ExitStack() as stack:
        processes = {one.name: stack.enter_context(start_process()) for one in candidates}
        for repeat in range(repeats):
            first = repeat % len(candidates)
            done: list[Result] = []
            for one in [*candidates[first:], *candidates[:first]]:
                if one.repeats is None or repeat < one.repeats:
                    running = processes[one.name].submit(measure, one, settings, repeat)
                    network, blocks = checked[one.name]
                    done.append(Result(case, one, network, blocks, repeat, running.result()))
                    say(f"{case}, repeat {repeat}: {describe(done[-1])}")
            yield sorted(done, key=lambda result: candidates.index(result.candidate))


def start_process() -> ProcessPoolExecutor:
    """Start a fresh process for the runs of one candidate; it ends with this one."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)


def measure(candidate: Candidate, settings: RunSettings, repeat: int) -> Measurement:
    """Measure one run, on one device or on several processes."""
    module = single if candidate.schedule in SCHEDULES else distributed
    return module.measure(candidate, settings, repeat)


def check_candidate(candidate: Candidate, settings: RunSettings) -> tuple[str, int]:
    """Check a candidate's settings; the network as tables name it, and its number of blocks.

    Raises
    ------
    ConfigError
        If its schedule is unknown or its settings are wrong.
    """
    known = (*SCHEDULES, *distributed.SCHEDULES)
    if candidate.schedule not in known:
        problem = f"unknown schedule {candidate.schedule!r}."
        raise ConfigError(candidate.name, problem, f"Known: {', '.join(known)}.")
    config = resolve_config(candidate, settings)
    if candidate.schedule in distributed.SCHEDULES:
        distributed.check_candidate(candidate, config, settings.device)
    size = "x".join(str(side) for side in config.input_shape[1:])
    own = [
        f"{key.removeprefix('training.')} {value}"
        for key, value in candidate.changes.items()
        if key.startswith("training.")
    ]
    network = ", ".join([f"{config.network.name} {size}", *own])
    return network, 1 if candidate.schedule == "end_to_end" else block_count(config)


def describe(result: Result) -> str:
    """Describe a run that is done in one line."""
    done = result.measured
    parts = [result.candidate.name]
    if done.step_seconds:
        parts.append(f"{sorted(done.step_seconds)[len(done.step_seconds) // 2]:.3f} s a step")
    if done.epochs:
        last = done.epochs[-1]
        parts.append(f"{last.train_seconds_cumulative:.1f} s in all, val {last.val_score:.2f}")
    return ", ".join([*parts, f"{done.peak_memory_mb:.0f} MB"])


def _build_settings(
    config: Config, plan: Plan, prepared: PreparedCohort | None, options: SpeedOptions
) -> RunSettings:
    splits = () if prepared is None else _plan_splits(config, plan, prepared, options)
    return RunSettings(
        config,
        threads=plan.threads,
        device=options.device,
        steps=plan.steps,
        warmup_steps=plan.warmup_steps,
        trains=plan.trains,
        prepared=prepared,
        splits=splits,
        step_limit_s=plan.step_limit_s,
    )


def _plan_splits(
    config: Config, plan: Plan, prepared: PreparedCohort, options: SpeedOptions
) -> tuple[Split, ...]:
    """Plan one split for each repeat: the folds of as many cross-validations as that takes."""
    rounds = -(-plan.repeats // options.folds) if options.folds > 1 else 1
    planned = plan_runs(prepared, config, TrainOptions(folds=options.folds, repeats=rounds))
    return tuple(planned[n % len(planned)].split for n in range(plan.repeats))


def _load_cohort(plan: Plan, options: SpeedOptions) -> PreparedCohort | None:
    if not plan.trains:
        return None
    if options.cohort is None:
        problem = f"plan {options.plan} trains to the end."
        raise ConfigError("--cohort", problem, "Give a table, a BIDS folder, or demo.")
    prepared, _ = prepare_options(options.cohort, plan.config.preprocessing)
    return prepared


def describe_machine(threads: int, device: str) -> str:
    """Name processor, cores, threads, torch and commit: what a figure must name."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    except OSError:
        pass
    if device.startswith("cuda") and torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()}, {name}"
    return (
        f"{name}, {os.cpu_count()} cores, {threads} threads a process, torch "
        f"{torch.__version__}, commit {git_commit()[:7]}"
    )


def _write_tables(
    results: list[Result], plan: Plan, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write speed.csv and summary.csv; the runs and their summary."""
    runs = tabulate_runs(results)
    summary = summarise(runs, plan.baseline)
    write_table(runs[list(COLUMNS)], folder / "speed.csv")
    write_table(summary, folder / "summary.csv")
    return runs, summary


def _write(
    results: list[Result],
    plan: Plan,
    options: SpeedOptions,
    machine: str,
    run: Run,
    baselines: pd.DataFrame | None,
) -> None:
    folder = options.output
    runs, summary = _write_tables(results, plan, folder)
    curves = tabulate_curves(results)
    plan_named = f"--config {options.config}" if options.config else f"--plan {options.plan}"
    command = f"brainage speed {plan_named}{' --quick' if options.quick else ''}"
    notes = [f"`{command}`", machine, f"{plan.repeats} repeats, candidates in turns.", plan.note]
    markdown = to_markdown(summary, plan.title, [note for note in notes if note])
    if baselines is not None:
        pooled = pool_rounds(curves, options.folds)
        rounds, ends = tabulate_rounds(runs, pooled, options.folds), compare_ends(runs)
        markdown += rounds_to_markdown(rounds, ends, baselines)
        write_table(rounds, folder / "rounds.csv")
        write_table(ends, folder / "ends.csv")
        write_table(baselines, folder / "baselines.csv")
        draw_rounds(rounds, pooled, folder / "rounds.png", plan.title)
    atomic_write_text(folder / "speed.md", markdown)
    facts: dict[str, Any] = {"command": command, "machine": machine, "quick": options.quick}
    write_json(facts, folder / "machine.json")
    draw(runs, folder / "speed.png", plan.title, machine)
    log_overview(run, *overview_tables(runs, curves), SPEED_BARS)
    run.log_artifact_folder(folder, "speed")
    run.log_figure(folder / "speed.png")
    say(f"\n{markdown}\nwritten to {folder}")
