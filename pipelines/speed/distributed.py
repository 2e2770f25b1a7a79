"""Entrants on several processes: LFNN-ℓ pipelined, and backpropagation at its best.

Every lap starts its processes anew, each with the track's number of threads. All rivals step on the
same global batch, through the trainer's own clipping and optimizers.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.nn.parallel import DistributedDataParallel

from brainage.config import Config, with_changes
from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.parallel.streams import StreamedBlocks
from brainage.lfnn.parallel.transport import keep_blocks, place_ranks
from brainage.lfnn.rules import StepResult
from brainage.lfnn.step import output_loss
from brainage.model.build import block_count, build_model, group_blocks, resolve_target
from brainage.training.options import TrainOptions
from brainage.training.pipelined import Pipelined, build_rank_trainer, check_pipelined
from brainage.training.processes import join_ranks, run_ranks
from brainage.training.resources import peak_memory_mb, reset_peak_memory
from brainage.training.run import train_run
from brainage.training.schedules import Schedule
from brainage.training.state import Batch, TrainingState, build_step_settings
from brainage.training.trainer import Trainer
from pipelines.speed.entrants import Entrant, Epoch, Lap, Spec, Track
from pipelines.speed.lap import random_batch
from pipelines.speed.memory import allocated_mb

SCHEDULES = ("pipelined", "ddp", "1f1b", "1f1b_m8", "gpipe", "streams")
MICROBATCHES = {"1f1b": 4, "1f1b_m8": 8, "gpipe": 4}
_AGES = (20.0, 80.0)


class DataParallel(Schedule):
    """Backpropagation on a part of each batch; gradients are averaged while they come."""

    def __init__(self) -> None:
        self._parallel: DistributedDataParallel | None = None

    def load(self, state: TrainingState, batch: Batch) -> tuple[Tensor, Tensor]:
        """Part of the batch for this rank."""
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
        """The same in order."""
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


@dataclass(frozen=True)
class DistributedEntrant:
    """A method on several processes, started for each lap."""

    spec: Spec
    track: Track
    network: str
    blocks: int

    def run_lap(self, repeat: int) -> Lap:
        """Time steps on one batch; the pipelined schedule also trains to the end if wanted."""
        steps, peak = (), math.nan
        if self.track.steps:
            steps, peak = self._time_steps(repeat)
        if not self.track.trains or self.spec.schedule != "pipelined":
            return Lap(steps, peak)
        assert self.track.prepared is not None
        config = config_of(self.spec, self.track, repeat)
        options = TrainOptions(
            device=self.track.device, processes=self.spec.devices, threads=self.track.threads
        )
        trained = train_run(self.track.prepared, self.track.splits[repeat], config, options)
        epochs = tuple(Epoch.of(record) for record in trained.history)
        error = float(trained.predictions["brain_age_gap_years"].abs().mean())
        return Lap(steps, peak, epochs=epochs, test_mae_years=error)

    def _time_steps(self, repeat: int) -> tuple[tuple[float, ...], float]:
        peaks: list[float] = []
        steps: list[tuple[float, ...]] = []

        def hear(word: str, content: tuple[Any, ...]) -> None:
            (peaks if word == "peak_mb" else steps).append(content[0])

        with tempfile.TemporaryDirectory() as folder:
            rendezvous = f"file://{Path(folder) / 'rendezvous'}"
            arguments = (self.spec, self.track, repeat, rendezvous)
            run_ranks(run_rank, arguments, self.spec.devices, hear)
        return steps[0], sum(peaks)

    def close(self) -> None:
        """Nothing is left running."""


def build_entrant(spec: Spec, track: Track) -> Entrant:
    """An entrant on `spec.devices` processes.

    Raises
    ------
    ConfigError
        If its settings are wrong, or its batch cannot be shared out.
    """
    config = config_of(spec, track)
    batch, parts = config.training.batch_size, MICROBATCHES.get(spec.schedule, 1)
    parts = spec.devices if spec.schedule == "ddp" else parts
    if batch % parts:
        problem = f"a batch of {batch} cannot be shared out to {parts} parts."
        raise ConfigError(spec.name, problem, "Change training.batch_size.")
    group_blocks(config, spec.devices if spec.schedule != "ddp" else 1)
    if spec.schedule == "streams" and not track.device.startswith("cuda"):
        raise ConfigError(spec.name, "streams need a GPU.", "Use --device cuda, or pipelined.")
    if spec.schedule in ("pipelined", "streams"):
        check_pipelined(config)
    elif config.learning.method != "bp":
        raise ConfigError(spec.name, f"{spec.schedule} is a schedule of bp.", "Use method: bp.")
    size = "x".join(str(side) for side in config.input_shape[1:])
    blocks = block_count(config)
    return DistributedEntrant(spec, track, f"{config.network.name} {size}", blocks)


def config_of(spec: Spec, track: Track, repeat: int = 0) -> Config:
    """Settings of a lap; the repeat is the seed's."""
    changes = {"learning.method": spec.method, **spec.changes}
    config = with_changes(track.config, changes, spec.name)
    config = config.model_copy(update={"seed": config.seed + repeat})
    return config if track.trains or config.images else resolve_target(config, _AGES)


def run_rank(
    rank: int, send: Callable[..., None], spec: Spec, track: Track, repeat: int, rendezvous: str
) -> None:
    """What each process of a lap does: build, warm up, time."""
    join_ranks(rank, spec.devices, rendezvous, track.threads, track.device)
    device = torch.device(track.device)
    config = config_of(spec, track, repeat)
    base = allocated_mb(device)
    reset_peak_memory(device)
    trainer = build_trainer(rank, spec, config, device)
    steps = time_steps(trainer, random_batch(config, repeat), track)
    send("peak_mb", peak_memory_mb(device) - base)
    if rank == spec.devices - 1:
        send("steps", steps)
    dist.barrier()
    dist.destroy_process_group()


def build_trainer(
    rank: int, spec: Spec, config: Config, device: torch.device
) -> Trainer | StreamedTrainer:
    """Build the trainer of one rank."""
    more = {"names": [], "shuffle": torch.Generator(), "device": device}
    model = build_model(config).to(device)
    if spec.schedule == "streams":
        return StreamedTrainer(model, config, **more)
    if spec.schedule == "ddp":
        return Trainer(model, config, schedule=DataParallel(), **more)
    groups = group_blocks(config, spec.devices)
    if spec.schedule != "pipelined":
        own = keep_blocks(model, groups[rank])
        schedule = Microbatched(own, config, groups[rank], spec.schedule)
        return Trainer(own, config, schedule=schedule, **more)
    alone = [dist.new_group([number]) for number in range(spec.devices)]
    place = place_ranks(groups, 1)[rank]
    return build_rank_trainer(model, config, place=place, groups=alone, **more)[0]


def time_steps(trainer: Trainer | StreamedTrainer, batch: Batch, track: Track) -> tuple[float, ...]:
    """Seconds between the ends of steps, in the flow: the last stage's are the pipeline's."""
    count = track.warmup_steps + track.steps
    sizes = [len(batch["target"])] * count
    trainer.model.train()
    schedule = None if isinstance(trainer, StreamedTrainer) else trainer.schedule
    if isinstance(schedule, Pipelined):
        schedule.open_links(sizes)
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
    timed = ends[max(0, track.warmup_steps - 1) :]
    return tuple(after - before for before, after in pairwise(timed))
