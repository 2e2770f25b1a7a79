"""One lap of an entrant on one device: what its process does."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from brainage.config import Config, with_changes
from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.model.build import build_model, resolve_target, seeded
from brainage.training.options import TrainOptions
from brainage.training.resources import choose_device, peak_memory_mb, reset_peak_memory
from brainage.training.run import train_run
from brainage.training.trainer import Trainer
from pipelines.speed.entrants import Epoch, Lap, Spec, Track
from pipelines.speed.memory import LiveBytes, allocated_mb, count_saved_bytes

SCHEDULES = {
    "end_to_end": {},
    "sequential": {"learning.schedule": "sequential"},
    "progressive": {"learning.schedule": "progressive"},
    "checkpointed": {"training.recompute": True},
    "compiled": {},
}
"""Schedules of one device, and the settings that each stands for."""

_POWER = Path("/sys/class/powercap")
_AGES = (20.0, 80.0)


def config_of(spec: Spec, track: Track, repeat: int = 0) -> Config:
    """Settings of a lap; the repeat is the seed's."""
    changes = {"learning.method": spec.method, **SCHEDULES[spec.schedule], **spec.changes}
    config = with_changes(track.config, changes, spec.name)
    config = config.model_copy(update={"seed": config.seed + repeat})
    return config if track.trains else resolve_target(config, _AGES)


def random_batch(config: Config, repeat: int) -> dict[str, Tensor]:
    """A batch of noise as volumes, with ages: the same for all entrants of a repeat."""
    count = config.training.batch_size
    with seeded(repeat, "batch"):
        inputs = torch.randn(count, *config.input_shape)
        target = _AGES[0] + (_AGES[1] - _AGES[0]) * torch.rand(count)
    return {"inputs": inputs, "target": target, "index": torch.arange(count)}


def run_lap(spec: Spec, track: Track, repeat: int) -> Lap:
    """Time steps on one batch, count their memory, and train to the end if the track wants it."""
    torch.set_num_threads(track.threads)
    device = choose_device(track.device)
    config = config_of(spec, track, repeat)
    base = allocated_mb(device)
    reset_peak_memory(device)
    steps: tuple[float, ...] = ()
    saved, live, joules = math.nan, math.nan, math.nan
    if track.steps and config.learning.schedule != "progressive":
        trainer = Trainer(
            build_model(config), config, names=[], shuffle=torch.Generator(), device=device
        )
        if spec.schedule == "compiled":
            compile_stages(trainer.model)
        batch = random_batch(config, repeat)
        before = read_joules()
        steps = tuple(_time_steps(trainer, batch, track))
        joules = read_joules() - before
        peak = peak_memory_mb(device) - base
        if spec.schedule != "compiled":  # what a compiled graph keeps is not seen from outside
            saved, live = _count_step(trainer, batch)
        del trainer, batch
    if not track.trains:
        return Lap(steps, peak, saved, live, energy_joules=joules)
    assert track.prepared is not None
    split = track.splits[repeat]
    base = allocated_mb(device)
    reset_peak_memory(device)
    before = read_joules()
    trained = train_run(track.prepared, split, config, TrainOptions(device=track.device))
    epochs = tuple(Epoch.of(record) for record in trained.history)
    error = trained.predictions["brain_age_gap_years"].abs().mean()
    peak = peak_memory_mb(device) - base
    joules = read_joules() - before
    return Lap(steps, peak, saved, live, epochs, float(error), joules)


def compile_stages(stack: BlockStack) -> None:
    """`torch.compile` every stage and head, in place; the first step pays for it."""
    for block in stack.blocks:
        assert isinstance(block, LocalBlock)
        for stage in (*block.body, block.head):
            if stage is not None:
                stage.compile(dynamic=False)  # each has one shape, and its own


def _time_steps(trainer: Trainer, batch: dict[str, Tensor], track: Track) -> Iterator[float]:
    trainer.model.train()
    start = time.perf_counter()
    for step in range(track.warmup_steps + track.steps):
        begin = time.perf_counter()
        trainer.train_step(batch)  # reads the losses, so that a CUDA device has finished
        end = time.perf_counter()
        if step >= track.warmup_steps:
            yield end - begin
        if end - start > track.step_limit_s and step > track.warmup_steps:
            return


def _count_step(trainer: Trainer, batch: dict[str, Tensor]) -> tuple[float, float]:
    held = [*trainer.model.parameters(), *trainer.model.buffers(), *batch.values()]
    saved_mb = math.nan
    if not trainer.state.training.recompute:  # a checkpoint hides what it recomputes
        with count_saved_bytes(held) as saved:
            trainer.train_step(batch)
        saved_mb = saved.peak / 2**20
    for optimizer in trainer.state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    with LiveBytes() as live:
        trainer.train_step(batch)
    return saved_mb, live.peak / 2**20


def read_joules() -> float:
    """Energy that the processor packages have counted; NaN where that cannot be read."""
    try:
        counters = list(_POWER.glob("intel-rapl:?/energy_uj"))
        readings = [int(path.read_text()) for path in counters]
    except (OSError, ValueError):
        return math.nan
    return sum(readings) / 1e6 if readings else math.nan
