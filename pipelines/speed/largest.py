"""Largest batch that trains in a given memory, tried for real, for each entrant of a plan.

``python -m pipelines.speed.largest --plan memory --megabytes 2048 --output DIR``. Every try has a
process of its own, which may hold so much more data than before its network was built (on Linux).
The batch doubles until a step fails for want of memory; then halving finds the largest that fits.
"""

import argparse
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from brainage.config import with_changes
from brainage.errors import DeviceMemoryError
from brainage.model.build import build_model
from brainage.training.trainer import Trainer
from brainage.workflows.console import say
from brainage.workflows.results import write_table
from pipelines.speed.entrants import Spec, Track
from pipelines.speed.lap import config_of, random_batch
from pipelines.speed.plan import load_plan

FIRST, LAST = 2, 256
_TOO_LARGE = 3


def main() -> None:
    """Try, and write largest.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", default="memory")
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--quick", action="store_true", help="check that it runs")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    plan = load_plan(options.plan)
    plan = plan.shortened() if options.quick else plan
    rows = []
    for case, changes in plan.cases.items():
        config = with_changes(plan.config, changes, f"cases.{case}")
        track = Track(config, threads=plan.threads)
        for line in plan.entrants:
            largest = find_largest(line.to_spec(), track, options.megabytes)
            rows.append({"case": case, "name": line.name, "largest_batch": largest})
            say(f"{case}, {line.name}: {largest} samples in {options.megabytes} MB")
            table = pd.DataFrame(rows).assign(megabytes=options.megabytes)
            write_table(table, options.output / "largest.csv")


def find_largest(spec: Spec, track: Track, megabytes: int) -> int:
    """Samples of the largest batch whose step fits; 0 where not even the smallest does."""
    return search(lambda count: fits(spec, track, count, megabytes))


def search(is_enough: Callable[[int], bool], first: int = FIRST, last: int = LAST) -> int:
    """Largest count from `first` to `last` that passes, if all smaller ones do; 0 if none does."""
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


def fits(spec: Spec, track: Track, count: int, megabytes: int) -> bool:
    """Whether a step of so many samples stays within the memory, in a process of its own.

    Raises
    ------
    RuntimeError
        If it fails for another reason, which its process has told.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.speed.lap"])
    process = context.Process(target=_try, args=(spec, track, count, megabytes))
    process.start()
    process.join()
    # Below 0: a library ended the process when it was refused memory.
    if process.exitcode is None or process.exitcode not in (0, _TOO_LARGE) and process.exitcode > 0:
        raise RuntimeError(f"{spec.name}: a step of {count} samples failed, see above.")
    return process.exitcode == 0


def _try(spec: Spec, track: Track, count: int, megabytes: int) -> None:
    torch.set_num_threads(track.threads)
    limit = data_bytes() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        run_step(spec, track, count)
    except (DeviceMemoryError, MemoryError):
        sys.exit(_TOO_LARGE)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("alloc", "memory", "primitive")):
            raise
        sys.exit(_TOO_LARGE)
    os._exit(0)  # without tidying up, for which there may be no memory


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
    """What the kernel counts against the limit."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 2**10
    raise OSError("/proc/self/status lacks VmData")


if __name__ == "__main__":
    main()
