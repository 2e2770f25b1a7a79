"""The pipelined schedule: each process trains its stretch of blocks, batch after batch.

What a rank writes and reads are parts of the ordinary checkpoint: rank 0 merges them, so that a
run can go on under either schedule and ends in one bundle.
"""

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from brainage.config import Config
from brainage.errors import ConfigError
from brainage.files import atomic_write_bytes
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import global_loss
from brainage.lfnn.parallel.transport import (
    Inlet,
    Outlet,
    Place,
    average_gradients,
    explain_lost_rank,
    incoming,
    keep_blocks,
    shard,
    share_buffers,
)
from brainage.lfnn.rules import METHOD_RULES, StepResult
from brainage.lfnn.step import step_blocks
from brainage.training.schedules import Schedule
from brainage.training.state import Batch, Loader, TrainingState, build_step_settings
from brainage.training.trainer import Trainer

_BLOCK_OF = re.compile(r"(?:^|\.)(?:blocks|optimizer)\.(\d+)\.")


def check_pipelined(config: Config) -> None:
    """Refuse settings that the pipelined schedule cannot follow.

    Raises
    ------
    ConfigError
        If the blocks of the method do not learn alone, or learn in turn.
    """
    method, learning = config.learning.method, config.learning
    if METHOD_RULES[method].hidden_loss is None:
        able = [name for name, rule in METHOD_RULES.items() if rule.hidden_loss is not None]
        problem = f"{method} cannot run on several processes: its blocks need each other."
        raise ConfigError("--processes", problem, f"Use learning.method {' or '.join(able)}.")
    if learning.schedule != "sequential":
        problem = f"the {learning.schedule} schedule trains one block at a time."
        raise ConfigError("--processes", problem, "Use learning.schedule: sequential.")


class Pipelined(Schedule):
    """Pipelined schedule: this process is one rank of a pipeline; all ranks run it at once.

    The training loader of the first stage gives inputs; those of other stages need only give
    `target` and `index` (and any `inputs`), in the same order.

    Parameters
    ----------
    whole : BlockStack
        The whole network, on its device.
    config : Config
        Settings of the run.
    place : Place
        Stage and replica of this rank; `torch.distributed` must be initialised.
    groups : sequence of torch.distributed.ProcessGroup
        For each stage, the group of its replicas.
    """

    weights_stand = False  # blocks before this rank's have moved on

    def __init__(
        self,
        whole: BlockStack,
        config: Config,
        place: Place,
        groups: Sequence[dist.ProcessGroup],
    ) -> None:
        check_pipelined(config)
        self.place, self._group = place, groups[place.stage]
        self._device = next(whole.parameters()).device
        settings = build_step_settings(config, self._device)
        self._shape, self._dtype = incoming(whole, place.blocks[0], config.input_shape, settings)
        self._losses: list[Tensor] = []
        self._share = 1.0
        self._inlet: Inlet | None = None
        self._outlet: Outlet | None = None

    def open_links(self, sizes: Sequence[int]) -> None:
        """Open links to the neighbours for batches of these sizes."""
        place = self.place
        if not place.is_first:
            self._inlet = Inlet(place.rank - 1, sizes, self._shape, self._dtype, self._device)
        if not place.is_last:
            self._outlet = Outlet(place.rank + 1)

    def drain_links(self) -> None:
        """Wait until all that was sent has arrived."""
        if self._outlet is not None:
            self._outlet.drain()

    def batches(self, state: TrainingState, epoch: int, loader: Loader) -> Loader:
        """Batches of this epoch; behind the first stage they hold labels only and fit in memory."""
        batches = self._held(loader)
        self._losses = []
        first = self.place.is_first
        self.open_links([] if first else [len(shard(b["target"], self.place)[0]) for b in batches])
        return batches

    def load(self, state: TrainingState, batch: Batch) -> tuple[Tensor, Tensor]:
        """Part of a batch for this replica, as it comes from the stage before."""
        inputs, target = state.load(batch)
        target, self._share = shard(target, self.place)
        if self._inlet is not None:
            return state.arrange(self._inlet.receive()), target
        return shard(inputs, self.place)[0], target

    def learn(self, state: TrainingState, inputs: Tensor, target: Tensor) -> StepResult:
        """Leave gradients in own blocks, averaged over replicas; hand features on."""
        hidden_loss = state.rule.hidden_loss
        assert hidden_loss is not None
        blocks, resting = self.place.blocks, state.settings.resting
        give = None if self._outlet is None else self._outlet.send
        result = step_blocks(state.model, blocks, inputs, target, state.settings, hidden_loss, give)
        losses = torch.zeros(len(state.model))
        trained = [block_index for block_index in blocks if block_index not in resting]
        for block_index, loss in zip(trained, result.losses, strict=True):
            losses[block_index] = loss * self._share
            if self.place.replicas > 1:
                average_gradients(state.model[block_index], self._group, self._share)
        self._losses.append(losses)
        return result

    def end_epoch(self, state: TrainingState, losses: list[float]) -> float:
        """Mean loss over steps, of all ranks' blocks."""
        self.drain_links()
        for block_index in self.place.blocks:
            if self.place.replicas > 1:
                share_buffers(state.model[block_index], self._group, self.place.stage)
        per_step = torch.stack(self._losses)
        with explain_lost_rank():
            dist.all_reduce(per_step)
        # Added block by block in single precision, as the sequential schedule does.
        summed = sum(per_step.unbind(dim=1))
        assert isinstance(summed, Tensor)
        return super().end_epoch(state, [float(loss) for loss in summed])

    @torch.no_grad()
    def validate(self, state: TrainingState, loader: Loader) -> tuple[float, tuple[float, ...]]:
        """As the sequential schedule does, each rank for its blocks; every rank gets all."""
        state.judged.eval()
        batches = self._held(loader)
        self.open_links([] if self.place.is_first else [len(b["target"]) for b in batches])
        scores, losses, count = torch.zeros(len(state.model)), 0.0, 0
        for batch in batches:
            target = batch["target"].to(state.device)
            outputs = self._judge(state, batch, target, scores)
            if self.place.is_last:
                loss = global_loss(outputs.float().squeeze(1), target, state.target)
                losses += float(loss) * len(target)
            count += len(target)
        self.drain_links()
        told = torch.cat([torch.tensor([losses], dtype=torch.float64), scores.double()])
        if self.place.replica > 0:
            told.zero_()
        with explain_lost_rank():
            dist.all_reduce(told)
        if not count:
            return math.nan, (math.nan,) * len(state.model)
        return float(told[0]) / count, tuple(float(score) / count for score in told[1:])

    def save(self, state: TrainingState) -> None:
        """Merge the parts of the first replica's ranks into one checkpoint, written by rank 0."""
        place, tensors = self.place, state.tensors()
        if place.replica > 0:
            return
        if not place.is_first:
            _send_bytes(save({name: t.contiguous() for name, t in tensors.items()}), 0)
            return
        for stage in range(1, place.stages):
            tensors |= load(_receive_bytes(stage))
        state.save(tensors)

    def restore(self, state: TrainingState) -> None:
        """Read the checkpoint on rank 0, which alone needs the file, and hand it to all."""
        path, is_reader = state.checkpoint_path, self.place.rank == 0
        is_there = is_reader and path is not None and path.exists()
        content = path.read_bytes() if is_there and path is not None else b""
        content = _broadcast_bytes(content, is_reader)
        if not content:
            return
        with tempfile.TemporaryDirectory() as folder:
            if path is None or not is_reader:
                path = Path(folder) / "checkpoint.safetensors"
                atomic_write_bytes(path, content)
            state.restore(path, self._is_own)

    def gather(self, state: TrainingState, whole: BlockStack) -> BlockStack:
        """Load all stages' weights into `whole`, on every rank."""
        weights: dict[str, Tensor] = {}
        own = {name: t.cpu().contiguous() for name, t in state.model.state_dict().items()}
        for stage in range(self.place.stages):
            is_source = self.place.rank == stage
            weights |= load(_broadcast_bytes(save(own) if is_source else b"", is_source, stage))
        whole.load_state_dict(weights)
        return whole

    def _held(self, loader: Loader) -> Loader:
        return loader if self.place.is_first else list(loader)

    def _judge(self, state: TrainingState, batch: Batch, target: Tensor, scores: Tensor) -> Tensor:
        """Run own blocks on a batch, add to their scores; worker outputs of the last of them."""
        inputs = batch["inputs"] if self._inlet is None else self._inlet.receive()
        features = state.arrange(inputs)
        outputs = features
        for block_index in self.place.blocks:
            with state.settings.autocast():
                features = state.judged[block_index].body(features)
                if block_index == self.place.blocks[-1] and self._outlet is not None:
                    self._outlet.send(features)
                outputs = state.judged.read_out(block_index, features)
            scores[block_index] += state.score(outputs, target)
        return outputs

    def _is_own(self, name: str) -> bool:
        found = _BLOCK_OF.search(name)
        return found is None or int(found.group(1)) in self.place.blocks


def build_rank_trainer(
    model: BlockStack,
    config: Config,
    *,
    place: Place,
    groups: Sequence[dist.ProcessGroup],
    device: torch.device,
    **more: Any,
) -> tuple[Trainer, Pipelined]:
    """Trainer of one rank, which keeps its own blocks of the network, and its schedule."""
    whole = model.to(device)
    schedule = Pipelined(whole, config, place, groups)
    own = keep_blocks(whole, place.blocks)
    return Trainer(own, config, schedule=schedule, device=device, **more), schedule


def _send_bytes(content: bytes, receiver: int) -> None:
    with explain_lost_rank(receiver):
        dist.send(torch.tensor([len(content)]), receiver)
        dist.send(torch.frombuffer(bytearray(content), dtype=torch.uint8), receiver)


def _receive_bytes(source: int) -> bytes:
    size = torch.zeros(1, dtype=torch.int64)
    with explain_lost_rank(source):
        dist.recv(size, source)
        buffer = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(buffer, source)
    return buffer.numpy().tobytes()


def _broadcast_bytes(content: bytes, is_source: bool, source: int = 0) -> bytes:
    size = torch.tensor([len(content)])
    with explain_lost_rank(source):
        dist.broadcast(size, source)
        if not int(size):
            return b""
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if is_source:
            buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(buffer, source)
    return buffer.numpy().tobytes()
