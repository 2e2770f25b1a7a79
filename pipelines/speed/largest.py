"""Largest batch that trains in a given memory, tried for real, for each entrant of a plan.

``python -m pipelines.speed.largest --plan memory --megabytes 1024 --output DIR``. Each entrant has
a process that may hold so much more than after a step with two samples; batches grow by one
until a step fails for want of memory.
"""

import argparse
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch

from brainage.config import with_changes
from brainage.errors import DeviceMemoryError
from brainage.model import build_model
from brainage.training.trainer import Trainer
from pipelines.console import say
from pipelines.results import write_table
from pipelines.speed.entrants import Spec, Track
from pipelines.speed.lap import config_of, random_batch
from pipelines.speed.memory import resident_mb
from pipelines.speed.plan import load_plan

FIRST, LAST = 2, 256


def main() -> None:
    """Try, and write largest.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", default="memory")
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    plan = load_plan(options.plan)
    rows = []
    for case, changes in plan.cases.items():
        config = with_changes(plan.config, changes, f"cases.{case}")
        for line in plan.entrants:
            track = Track(config, threads=plan.threads)
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as process:
                task = process.submit(find_largest, line.to_spec(), track, options.megabytes)
                largest = task.result()
            rows.append({"case": case, "name": line.name, "largest_batch": largest})
            say(f"{case}, {line.name}: {largest} samples in {options.megabytes} MB")
    table = pd.DataFrame(rows).assign(megabytes=options.megabytes)
    write_table(table, options.output / "largest.csv")


def find_largest(spec: Spec, track: Track, megabytes: int) -> int:
    """Samples of the largest batch whose step fits; 0 where not even the smallest does."""
    torch.set_num_threads(track.threads)
    run_step(spec, track, FIRST)
    limit = data_bytes() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    fits = 0
    for count in range(FIRST, LAST + 1):
        try:
            run_step(spec, track, count)
        except (DeviceMemoryError, MemoryError):
            break
        fits = count
    return fits


def run_step(spec: Spec, track: Track, count: int) -> None:
    """Two steps of a new network, so that the optimizer's moments are there in the second."""
    config = config_of(spec, track)
    config = with_changes(config, {"training.batch_size": count}, spec.name)
    trainer = Trainer(build_model(config), config, names=[], shuffle=torch.Generator())
    trainer.model.train()
    batch = random_batch(config, 0)
    for _ in range(2):
        trainer.train_step(batch)


def data_bytes() -> int:
    """What the kernel counts against the limit, free pages given back."""
    resident_mb()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 2**10
    raise OSError("/proc/self/status lacks VmData")


if __name__ == "__main__":
    main()
