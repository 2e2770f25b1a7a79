"""Runs on several processes: LFNN-ℓ pipelined, and backpropagation at its best.

Every run starts its processes anew, each with the settings' number of threads. All candidates step
on the same global batch, through the trainer's own clipping and optimizers.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.nn.parallel import DistributedDataParallel

from brainage.config import Config
from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.parallel.streams import StreamedBlocks
from brainage.lfnn.parallel.transport import keep_blocks, place_ranks
from brainage.lfnn.rules import StepResult
from brainage.lfnn.step import output_loss
from brainage.model.build import build_model, group_blocks
from brainage.training.pipelined import Pipelined, build_rank_trainer, check_pipelined
from brainage.training.processes import join_ranks, run_ranks
from brainage.training.resources import peak_memory_mb, reset_peak_memory
from brainage.training.schedules import Schedule
from brainage.training.state import Batch, TrainingState, build_step_settings
from brainage.training.trainer import Trainer
from pipelines.speed.memory import allocated_mb
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import (
    Measurement,
    RunSettings,
    random_batch,
    resolve_config,
    train_to_end,
)

SCHEDULES = ("pipelined", "ddp", "1f1b", "1f1b_m8", "gpipe", "streams")
MICROBATCHES = {"1f1b": 4, "1f1b_m8": 8, "gpipe": 4}


class DataParallel(Schedule):
    """Backpropagation on a part of each batch; gradients are averaged while they come."""

    def __init__(self) -> None:
        self._parallel: DistributedDataParallel | None = None

    def load(self, state: TrainingState, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the part of the batch for this rank."""
        inputs, target = state.load(batch)
        rank, count = dist.get_rank(), dist.get_world_size()
        return inputs.tensor_split(count)[rank], target.tensor_split(count)[rank]

    def learn(self, state: TrainingState, inputs: Tensor, target: Tensor) -> StepResult:
        """Leave averaged gradients."""
        if self._parallel is None:
            self._parallel = DistributedDataParallel(state.model, gradient_as_bucket_view=True)
        with state.settings.autocast():
            output = self._parallel(inputs)
        loss = output_loss(output, target, state.settings)
        loss.backward()
        return StepResult(output.detach(), (loss.detach(),))


class _Contiguous(nn.Module):
    """Tokens are a transposed view; messages must lie in order."""

    def forward(self, features: Tensor) -> Tensor:
        """Copy the features into order."""
        return features.contiguous()


class Microbatched(Schedule):
    """Backpropagation in a pipeline of microbatches: torch's own 1F1B or GPipe schedule.

    Parameters
    ----------
    model : BlockStack
        Network with this rank's `blocks` alone, on its device.
    """

    def __init__(self, model: BlockStack, config: Config, blocks: range, schedule: str) -> None:
        device = next(model.parameters()).device
        self._settings = build_step_settings(config, device)
        body: list[nn.Module] = [model[index].body for index in blocks]
        self._is_last = blocks[-1] == len(model) - 1
        head = model[blocks[-1]].head
        if self._is_last and head is not None:
            body += [head, nn.Flatten()]
        else:
            body.append(_Contiguous())
        stages, rank = dist.get_world_size(), dist.get_rank()
        stage = PipelineStage(nn.Sequential(*body), rank, stages, device)
        kind = ScheduleGPipe if schedule == "gpipe" else Schedule1F1B
        self._schedule = kind(stage, MICROBATCHES[schedule], loss_fn=self._loss)

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        return output_loss(output, target, self._settings)

    def learn(self, state: TrainingState, inputs: Tensor, target: Tensor) -> StepResult:
        """Leave the gradients of own blocks over all microbatches."""
        losses: list[Tensor] = []
        given = (inputs,) if dist.get_rank() == 0 else ()
        with state.settings.autocast():
            if self._is_last:
                self._schedule.step(*given, target=target, losses=losses, return_outputs=False)
            else:
                self._schedule.step(*given, return_outputs=False)
        loss = torch.stack(losses).mean().detach() if losses else torch.zeros(())
        return StepResult(loss, (loss,))


class StreamedTrainer:
    """LFNN-ℓ with a CUDA stream for each block; a step returns when its batch is queued."""

    def __init__(self, model: BlockStack, config: Config, **more: Any) -> None:
        self._state = TrainingState(model, config, **more)
        self.model, rule = self._state.model, self._state.rule
        assert rule.hidden_loss is not None
        self._streams = StreamedBlocks(
            self.model,
            self._state.optimizers,
            self._state.settings,
            rule.hidden_loss,
            config.training.max_gradient_norm,
        )

    def train_step(self, batch: Batch) -> float:
        """Queue one batch; the loss is not waited for."""
        self._streams.step(*self._state.load(batch))
        return math.nan

    def wait(self) -> None:
        """Wait for all blocks."""
        self._streams.wait()


def measure(candidate: Candidate, settings: RunSettings, repeat: int) -> Measurement:
    """Time steps on one batch; the pipelined schedule also trains to the end if that is wanted."""
    measured = Measurement((), math.nan)
    if settings.steps:
        measured = _measure_steps(candidate, settings, repeat)
    if not settings.trains or candidate.schedule != "pipelined":
        return measured
    config = resolve_config(candidate, settings, repeat)
    epochs, error = train_to_end(config, settings, repeat, candidate.devices)
    return replace(measured, epochs=epochs, test_mae_years=error)


def _measure_steps(candidate: Candidate, settings: RunSettings, repeat: int) -> Measurement:
    sent: dict[str, list[Any]] = {"peak_mb": [], "steps": []}
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{Path(folder) / 'rendezvous'}"
        arguments = (candidate, settings, repeat, rendezvous)
        devices = candidate.devices
        run_ranks(run_rank, arguments, devices, lambda name, value: sent[name].append(value[0]))
    return Measurement(sent["steps"][0], sum(sent["peak_mb"]))


def check_candidate(candidate: Candidate, config: Config, device: str) -> None:
    """Check that a candidate runs on `candidate.devices` processes.

    Raises
    ------
    ConfigError
        If its settings are wrong, or its batch cannot be shared out.
    """
    schedule, name = candidate.schedule, candidate.name
    batch, parts = config.training.batch_size, MICROBATCHES.get(schedule, 1)
    parts = candidate.devices if schedule == "ddp" else parts
    if batch % parts:
        problem = f"a batch of {batch} cannot be shared out to {parts} parts."
        raise ConfigError(name, problem, "Change training.batch_size.")
    group_blocks(config, candidate.devices if schedule != "ddp" else 1)
    if schedule == "streams" and not device.startswith("cuda"):
        raise ConfigError(name, "streams need a GPU.", "Use --device cuda, or pipelined.")
    if schedule in ("pipelined", "streams"):
        check_pipelined(config)
    elif config.learning.method != "bp":
        raise ConfigError(name, f"{schedule} is a schedule of bp.", "Use method: bp.")


def run_rank(
    rank: int,
    send: Callable[..., None],
    candidate: Candidate,
    settings: RunSettings,
    repeat: int,
    rendezvous: str,
) -> None:
    """Run one process of a run: build, warm up, time."""
    join_ranks(rank, candidate.devices, rendezvous, settings.threads, settings.device)
    device = torch.device(settings.device)
    config = resolve_config(candidate, settings, repeat)
    base = allocated_mb(device)
    reset_peak_memory(device)
    trainer = build_trainer(rank, candidate, config, device)
    steps = time_steps(trainer, random_batch(config, repeat), settings)
    send("peak_mb", peak_memory_mb(device) - base)
    if rank == candidate.devices - 1:
        send("steps", steps)
    dist.barrier()
    dist.destroy_process_group()


def build_trainer(
    rank: int, candidate: Candidate, config: Config, device: torch.device
) -> Trainer | StreamedTrainer:
    """Build the trainer of one rank."""
    more: dict[str, Any] = {"names": [], "shuffle": torch.Generator(), "device": device}
    model = build_model(config).to(device)
    if candidate.schedule == "streams":
        return StreamedTrainer(model, config, **more)
    if candidate.schedule == "ddp":
        return Trainer(model, config, schedule=DataParallel(), **more)
    groups = group_blocks(config, candidate.devices)
    if candidate.schedule != "pipelined":
        own = keep_blocks(model, groups[rank])
        schedule = Microbatched(own, config, groups[rank], candidate.schedule)
        return Trainer(own, config, schedule=schedule, **more)
    alone = [dist.new_group([number]) for number in range(candidate.devices)]
    place = place_ranks(groups, 1)[rank]
    return build_rank_trainer(model, config, place=place, groups=alone, **more)[0]


def time_steps(
    trainer: Trainer | StreamedTrainer, batch: Batch, settings: RunSettings
) -> tuple[float, ...]:
    """Time from one end of a step to the next, in the flow; the last stage's are the pipeline's."""
    count = settings.warmup_steps + settings.steps
    trainer.model.train()
    schedule = None if isinstance(trainer, StreamedTrainer) else trainer.schedule
    if isinstance(schedule, Pipelined):
        schedule.open_links([len(batch["target"])] * count)
    dist.barrier()
    ends = []
    for _ in range(count):
        trainer.train_step(batch)
        ends.append(time.perf_counter())
    if isinstance(schedule, Pipelined):
        schedule.drain_links()
    if isinstance(trainer, StreamedTrainer):
        trainer.wait()  # the last end is that of all work: the mean of the steps is what counts
        ends[-1] = time.perf_counter()
    timed = ends[max(0, settings.warmup_steps - 1) :]
    return tuple(after - before for before, after in pairwise(timed))
