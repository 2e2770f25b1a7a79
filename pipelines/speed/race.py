"""`brainage speed`: entrants take turns, lap by lap; one table, one picture, one tracked run."""

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from brainage.cohorts.splits import Split
from brainage.config import Config, with_changes
from brainage.errors import ConfigError
from brainage.files import atomic_write_text
from brainage.tracking import SPEED_BARS, Run, Tracker, log_overview
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.console import say, warn
from brainage.workflows.crossval import plan_runs
from brainage.workflows.results import write_json, write_table
from pipelines.speed import lap, single
from pipelines.speed.entrants import Entrant, Lap, Spec, Track
from pipelines.speed.plan import RacePlan, load_plan
from pipelines.speed.rounds import (
    compare_ends,
    draw_rounds,
    rounds_to_markdown,
    tabulate_baselines,
    tabulate_rounds,
)
from pipelines.speed.summary import (
    Result,
    draw,
    overview_tables,
    speed_table,
    summarise,
    to_markdown,
)

EXPERIMENT = "speed"


@dataclass(frozen=True)
class SpeedOptions:
    """What the command line says beside the plan."""

    plan: str
    output: Path
    quick: bool = False
    config: Path | None = None
    cohort: CohortOptions | None = None
    folds: int = 5
    device: str = "cpu"
    tracking_uri: str | None = None
    overwrite: bool = False


def run_race(options: SpeedOptions) -> list[Result]:
    """Run every case of a plan, then write speed.csv, summary.csv, speed.md and speed.png.

    Raises
    ------
    ConfigError
        If the plan is wrong, or trains and no cohort is given.
    """
    if (options.output / "speed.csv").exists() and not options.overwrite:
        problem, remedy = "already holds a race.", "Use --overwrite, or another --output."
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
            track = _build_track(config, plan, prepared, options)
            specs = [line.to_spec() for line in plan.entrants]
            for found in run_case(case, specs, track, plan.repeats, plan.against):
                results += found
                _write_tables(results, options.output)  # a race that is ended keeps its repeats
        baselines = None
        if prepared is not None:
            splits = _plan_splits(plan.config, plan, prepared, options)
            baselines = tabulate_baselines(prepared, splits, options.folds)
        _write(results, plan, options, machine, parent, baselines)
    return results


def run_case(
    case: str, specs: Sequence[Spec], track: Track, repeats: int, against: str
) -> Iterator[list[Result]]:
    """The repeats of one case: in each of them each entrant once, another one first each time."""
    with built([build(spec, track) for spec in specs]) as entrants:
        for repeat in range(repeats):
            first = repeat % len(entrants)
            laps: dict[str, Lap] = {}
            for entrant in [*entrants[first:], *entrants[:first]]:
                if entrant.spec.repeats is None or repeat < entrant.spec.repeats:
                    laps[entrant.spec.name] = entrant.run_lap(repeat)
                    say(f"{case}, repeat {repeat}: {brief(entrant.spec, laps)}")
            yield [
                Result(case, entrant, repeat, laps[entrant.spec.name], against)
                for entrant in entrants
                if entrant.spec.name in laps
            ]


@contextmanager
def built(entrants: list[Entrant]) -> Iterator[list[Entrant]]:
    """Entrants, closed at the end however it comes."""
    try:
        yield entrants
    finally:
        for entrant in entrants:
            entrant.close()


def build(spec: Spec, track: Track) -> Entrant:
    """The entrant of a line of the plan.

    Raises
    ------
    ConfigError
        If no module offers its schedule.
    """
    if spec.schedule in lap.SCHEDULES:
        return single.build_entrant(spec, track)
    known = list(lap.SCHEDULES)
    if find_spec("pipelines.speed.distributed") is not None:
        from pipelines.speed import distributed

        if spec.schedule in distributed.SCHEDULES:
            entrant: Entrant = distributed.build_entrant(spec, track)
            return entrant
        known += distributed.SCHEDULES
    raise ConfigError(spec.name, f"unknown schedule {spec.schedule!r}.", f"Known: {known}.")


def brief(spec: Spec, laps: dict[str, Lap]) -> str:
    """One line about a lap that is done."""
    done = laps[spec.name]
    parts = [spec.name]
    if done.step_seconds:
        parts.append(f"{sorted(done.step_seconds)[len(done.step_seconds) // 2]:.3f} s a step")
    if done.epochs:
        last = done.epochs[-1]
        parts.append(f"{last.train_seconds_cumulative:.1f} s in all, val {last.val_score:.2f}")
    return ", ".join([*parts, f"{done.peak_memory_mb:.0f} MB"])


def _build_track(
    config: Config, plan: RacePlan, prepared: PreparedCohort | None, options: SpeedOptions
) -> Track:
    splits = () if prepared is None else _plan_splits(config, plan, prepared, options)
    return Track(
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
    config: Config, plan: RacePlan, prepared: PreparedCohort, options: SpeedOptions
) -> tuple[Split, ...]:
    """One for each repeat: the folds of as many cross-validations as that takes."""
    rounds = -(-plan.repeats // options.folds) if options.folds > 1 else 1
    planned = plan_runs(prepared, config, TrainOptions(folds=options.folds, repeats=rounds))
    return tuple(planned[n % len(planned)].split for n in range(plan.repeats))


def _load_cohort(plan: RacePlan, options: SpeedOptions) -> PreparedCohort | None:
    if not plan.trains:
        return None
    if options.cohort is None:
        problem = f"plan {options.plan} trains to the end."
        raise ConfigError("--cohort", problem, "Give a table, a BIDS folder, or demo.")
    prepared, _ = prepare_options(options.cohort, plan.config.preprocessing)
    return prepared


def describe_machine(threads: int, device: str) -> str:
    """Processor, cores, threads, memory formats and commit: what a figure must name."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    except OSError:
        pass
    if device.startswith("cuda") and torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()}, {name}"
    folder = Path(__file__).parent
    ask = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"{name}, {os.cpu_count()} cores, {threads} threads a process, torch "
        f"{torch.__version__}, commit {commit or 'unknown'}"
    )


def _write_tables(results: list[Result], folder: Path) -> None:
    write_table(speed_table(results), folder / "speed.csv")
    write_table(summarise(results), folder / "summary.csv")


def _write(
    results: list[Result],
    plan: RacePlan,
    options: SpeedOptions,
    machine: str,
    run: Run,
    baselines: pd.DataFrame | None,
) -> None:
    summary = summarise(results)
    plan_named = f"--config {options.config}" if options.config else f"--plan {options.plan}"
    command = f"brainage speed {plan_named}{' --quick' if options.quick else ''}"
    notes = [f"`{command}`", machine, f"{plan.repeats} repeats, entrants in turns.", plan.note]
    markdown = to_markdown(summary, plan.title, [note for note in notes if note])
    folder = options.output
    if baselines is not None:
        rounds, ends = tabulate_rounds(results, options.folds), compare_ends(results)
        markdown += rounds_to_markdown(rounds, ends, baselines)
        write_table(rounds, folder / "rounds.csv")
        write_table(ends, folder / "ends.csv")
        write_table(baselines, folder / "baselines.csv")
        draw_rounds(results, options.folds, folder / "rounds.png", plan.title)
    _write_tables(results, folder)
    atomic_write_text(folder / "speed.md", markdown)
    facts: dict[str, Any] = {"command": command, "machine": machine, "quick": options.quick}
    write_json(facts, folder / "machine.json")
    draw(results, folder / "speed.png", plan.title, machine)
    log_overview(run, *overview_tables(results), SPEED_BARS)
    run.log_artifact_folder(folder, "speed")
    run.log_figure(folder / "speed.png")
    say(f"\n{markdown}\nwritten to {folder}")
