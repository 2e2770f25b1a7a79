"""Largest batch that trains in a given memory, tried for real, for each candidate of a plan.

``python -m pipelines.speed.largest --megabytes 2048 --output DIR``. Every try has a process of its
own, whose largest resident memory by the kernel (VmHWM, on Linux), libraries included, may be so
large. The batch doubles until a step takes more; then halving finds the largest that fits.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from brainage.config import with_changes
from brainage.errors import DeviceMemoryError
from brainage.model.build import build_model
from brainage.training.resources import peak_memory_mb
from brainage.training.trainer import Trainer
from brainage.workflows.console import run_as_command, say, show_output
from brainage.workflows.results import write_table
from pipelines.speed.plan import Candidate, load_plan
from pipelines.speed.runs import RunSettings, random_batch, resolve_config

FIRST, LAST = 2, 256
_TOO_LARGE = 3


def main() -> None:
    """Try, and write largest.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", default="largest")
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--quick", action="store_true", help="check that it runs")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    plan = load_plan(options.plan)
    plan = plan.shortened() if options.quick else plan
    rows = []
    for case, changes in plan.cases.items():
        config = with_changes(plan.config, changes, f"cases.{case}")
        settings = RunSettings(config, threads=plan.threads)
        for candidate in plan.candidates:
            largest = find_largest(candidate, settings, options.megabytes)
            rows.append({"case": case, "name": candidate.name, "largest_batch": largest})
            say(f"{case}, {candidate.name}: {largest} samples in {options.megabytes} MB")
            table = pd.DataFrame(rows).assign(megabytes=options.megabytes)
            write_table(table, options.output / "largest.csv")


def find_largest(candidate: Candidate, settings: RunSettings, megabytes: int) -> int:
    """Find the largest batch, in samples, whose step fits; 0 where not even the smallest does."""
    return search(lambda count: fits(candidate, settings, count, megabytes))


def search(is_enough: Callable[[int], bool], first: int = FIRST, last: int = LAST) -> int:
    """Search the largest count from `first` to `last` that passes; 0 if none does."""
    passed, failed = 0, last + 1
    count = first
    while failed - max(passed, first - 1) > 1:
        if is_enough(count):
            passed = count
        else:
            failed = count
        doubled = 2 * passed if failed > last else (passed + failed) // 2
        count = min(max(doubled, first), last)
    return passed


def fits(candidate: Candidate, settings: RunSettings, count: int, megabytes: int) -> bool:
    """Tell whether a step of so many samples stays within the memory, in a process of its own.

    Raises
    ------
    RuntimeError
        If it fails for another reason, which its process has told.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.speed.runs", "brainage.training.trainer"])
    process = context.Process(target=_try, args=(candidate, settings, count, megabytes))
    process.start()
    process.join()
    # Below 0: a library ended the process when it was refused memory.
    if (process.exitcode or 0) > 0 and process.exitcode != _TOO_LARGE:
        raise RuntimeError(f"{candidate.name}: a step of {count} samples failed, see above.")
    return process.exitcode == 0


def _try(candidate: Candidate, settings: RunSettings, count: int, megabytes: int) -> None:
    show_output()
    torch.set_num_threads(settings.threads)
    try:
        run_step(candidate, settings, count)
    except (DeviceMemoryError, MemoryError):  # the machine has no more
        sys.exit(_TOO_LARGE)
    peak = peak_memory_mb(torch.device("cpu"))
    say(f"{candidate.name}, {count} samples: {peak:.0f} MB")
    sys.exit(_TOO_LARGE if peak > megabytes else 0)


def run_step(candidate: Candidate, settings: RunSettings, count: int) -> None:
    """Take two steps of a new network, so that the optimizer's moments are there in the second."""
    config = resolve_config(candidate, settings)
    config = with_changes(config, {"training.batch_size": count}, candidate.name)
    trainer = Trainer(build_model(config), config, names=[], shuffle=torch.Generator())
    trainer.model.train()
    batch = random_batch(config, 0)
    for _ in range(2):
        trainer.train_step(batch)


if __name__ == "__main__":
    sys.exit(run_as_command(main))
