"""Compare predicted with measured steps on several processes: `brainage simulate --validate`."""

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from brainage.config import Config
from brainage.lfnn.parallel.profile import (
    BlockTimes,
    backpropagation_s,
    bound_of,
    cut_by_time,
    cut_like,
)
from brainage.lfnn.parallel.simulate import (
    data_parallel_epoch_s,
    microbatched_epoch_s,
    pipelined_epoch_s,
)
from brainage.workflows.console import say
from brainage.workflows.profiling import (
    ProfileOptions,
    measure_in_parts,
    measure_link,
    measure_stages,
)
from brainage.workflows.results import write_table
from pipelines.speed.distributed import MICROBATCHES, check_candidate, measure
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import RunSettings, resolve_config

_TURNS = 3


def validate(
    config: Config,
    devices: int,
    output: Path,
    options: ProfileOptions,
    steps: int = 20,
) -> pd.DataFrame:
    """Predict steps of the pipelined schedule, 1F1B and DDP, run all, and write validation.csv.

    Stages are timed by as many processes at once as will run, and those of backpropagation on parts
    of a batch, as it runs them. Profile and runs take turns, three times, since a shared machine is
    not equally fast all the time; medians count. The speed-up is over backpropagation timed by one
    process alone.
    """
    at_once = replace(options, processes=devices)
    parts = cut_by_time(measure_stages(config, at_once), devices)
    changes: dict[str, Any] = {
        "learning.cuts": [part.stages[0] for part in parts],
        "training.batch_size": options.batch_size or config.training.batch_size,
    }
    settings = RunSettings(config, threads=options.threads, steps=steps, warmup_steps=3)
    rows = []
    for turn in range(_TURNS):
        alone_s = backpropagation_s(cut_like(parts, measure_stages(config, options)))
        for schedule, seconds in _predict(config, parts, devices, steps, at_once).items():
            method = "lfnn_l" if schedule == "pipelined" else "bp"
            candidate = Candidate(
                name=schedule, method=method, schedule=schedule, devices=devices, changes=changes
            )
            check_candidate(candidate, resolve_config(candidate, settings), settings.device)
            measured = median(measure(candidate, settings, turn).step_seconds)
            row = {"schedule": schedule, "predicted_s": seconds, "measured_s": measured}
            rows.append(row | {"ratio": measured / seconds, "speedup": alone_s / measured})
            say(f"turn {turn}: {schedule}, {measured:.4g} s a step, {seconds:.4g} predicted")
    turns = pd.DataFrame(rows).groupby("schedule", sort=False)
    table = turns.median().assign(
        ratio_least=turns["ratio"].min(),
        ratio_greatest=turns["ratio"].max(),
        bound_speedup=bound_of(parts).speedup,
    )
    table = table.reset_index()
    write_table(table, output / "validation.csv")
    say(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    return table


def _predict(
    config: Config, parts: list[BlockTimes], devices: int, steps: int, options: ProfileOptions
) -> dict[str, float]:
    """Predict the seconds a step of each schedule, from a profile made now."""
    link, count = measure_link(options.threads), MICROBATCHES["1f1b"]
    whole = cut_like(parts, measure_stages(config, options))
    micro = cut_like(parts, measure_in_parts(config, options, count))
    shared = cut_like(parts, measure_in_parts(config, options, devices, updates=devices))
    once, twice = (pipelined_epoch_s(whole, devices, n * steps, link) for n in (1, 2))
    return {
        "pipelined": (twice - once) / steps,
        "1f1b": microbatched_epoch_s(micro, devices, 1, count, link),
        "ddp": data_parallel_epoch_s(shared, devices, 1, link),
    }
