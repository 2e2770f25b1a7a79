"""One run of a candidate on one device."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from brainage.config import Config
from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.model.build import build_model
from brainage.training.resources import choose_device, peak_memory_mb, reset_peak_memory
from brainage.training.trainer import Trainer
from pipelines.speed.memory import LiveBytes, allocated_mb, count_saved_bytes
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import (
    Measurement,
    RunSettings,
    random_batch,
    resolve_config,
    train_to_end,
)

_POWER = Path("/sys/class/powercap")


def measure(candidate: Candidate, settings: RunSettings, repeat: int) -> Measurement:
    """Time steps on one batch, count their memory, and train to the end if that is wanted."""
    torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    config = resolve_config(candidate, settings, repeat)
    measured = Measurement((), math.nan)
    if settings.steps and config.learning.schedule != "progressive":
        measured = measure_steps(candidate, config, settings, repeat, device)
    if not settings.trains:
        return measured
    base, before = _start(device)
    epochs, error = train_to_end(config, settings, repeat)
    peak, joules = peak_memory_mb(device) - base, read_joules() - before
    return replace(
        measured, epochs=epochs, test_mae_years=error, peak_memory_mb=peak, energy_joules=joules
    )


def measure_steps(
    candidate: Candidate, config: Config, settings: RunSettings, repeat: int, device: torch.device
) -> Measurement:
    """Time steps on one batch of noise, and count the memory of one more."""
    base, _ = _start(device)
    model, shuffle = build_model(config), torch.Generator()
    trainer = Trainer(model, config, names=[], shuffle=shuffle, device=device)
    if candidate.schedule == "compiled":
        compile_stages(trainer.model)
    batch = random_batch(config, repeat)
    before = read_joules()
    steps = tuple(_time_steps(trainer, batch, settings))
    joules, peak = read_joules() - before, peak_memory_mb(device) - base
    # What a compiled graph keeps is not seen from outside.
    counted = (math.nan,) * 2 if candidate.schedule == "compiled" else count_step(trainer, batch)
    return Measurement(steps, peak, *counted, energy_joules=joules)


def _start(device: torch.device) -> tuple[float, float]:
    """Read the megabytes held and joules used now, from where a run is measured."""
    base = allocated_mb(device)
    reset_peak_memory(device)
    return base, read_joules()


def compile_stages(stack: BlockStack) -> None:
    """Compile every stage and head in place (`torch.compile`); the first step pays for it."""
    for block in stack.blocks:
        assert isinstance(block, LocalBlock)
        for stage in (*block.body, block.head):
            if stage is not None:
                stage.compile(dynamic=False)  # each has one shape, and its own


def _time_steps(
    trainer: Trainer, batch: dict[str, Tensor], settings: RunSettings
) -> Iterator[float]:
    trainer.model.train()
    start = time.perf_counter()
    for step in range(settings.warmup_steps + settings.steps):
        begin = time.perf_counter()
        trainer.train_step(batch)  # reads the losses, so that a CUDA device has finished
        end = time.perf_counter()
        if step >= settings.warmup_steps:
            yield end - begin
        if end - start > settings.step_limit_s and step > settings.warmup_steps:
            return


def count_step(trainer: Trainer, batch: dict[str, Tensor]) -> tuple[float, float]:
    """Count the megabytes that autograd keeps in a step, and those of all its tensors."""
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
    """Read the energy that the processor packages have counted; NaN where that cannot be read."""
    try:
        counters = list(_POWER.glob("intel-rapl:?/energy_uj"))
        readings = [int(path.read_text()) for path in counters]
    except (OSError, ValueError):
        return math.nan
    return sum(readings) / 1e6 if readings else math.nan
