"""The pipelined schedule: each process trains its stretch of blocks, batch after batch.

What a rank writes and reads are parts of the ordinary checkpoint: rank 0 merges them, so that a
run can go on under either schedule and ends in one bundle.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from brainage.config import Config
from brainage.errors import ConfigError, NonFiniteLossError
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
from brainage.training.checkpoint import Checkpoint, save_checkpoint
from brainage.training.trainer import Batch, Loader, Trainer

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


class PipelinedTrainer(Trainer):
    """A trainer that is one rank of a pipeline; all ranks run it at once.

    The training loader of the first stage gives inputs; those of other stages need only give
    `target` and `index` (and any `inputs`), in the same order.

    Parameters
    ----------
    model : BlockStack
        The whole network; what other ranks hold is dropped.
    place : Place
        Where this rank stands; `torch.distributed` must be initialised.
    groups : sequence of torch.distributed.ProcessGroup
        For each stage, the group of its replicas.
    """

    def __init__(
        self,
        model: BlockStack,
        config: Config,
        *,
        place: Place,
        groups: Sequence[dist.ProcessGroup],
        **more: Any,
    ) -> None:
        check_pipelined(config)
        super().__init__(keep_blocks(model, place.blocks), config, **more)
        self.place, self.group = place, groups[place.stage]
        whole = model.to(self.device)
        first_block = place.blocks[0]
        self._shape, self._dtype = incoming(whole, first_block, config.input_shape, self.settings)
        self._losses: list[Tensor] = []
        self._share = 1.0
        self._inlet: Inlet | None = None
        self._outlet: Outlet | None = None

    @contextmanager
    def linked(self, sizes: Sequence[int]) -> Iterator[None]:
        """Links to the neighbours for batches of these sizes; drained at the end."""
        place = self.place
        if not place.is_first:
            self._inlet = Inlet(place.rank - 1, sizes, self._shape, self._dtype, self.device)
        if not place.is_last:
            self._outlet = Outlet(place.rank + 1)
        yield
        if self._outlet is not None:
            self._outlet.drain()

    def _batches(self, epoch: int, loader: Loader) -> Loader:
        """Batches of this epoch; behind the first stage they hold labels only and fit in memory."""
        return loader if self.place.is_first else _Kept(list(loader))

    def _train_epoch(self, epoch: int, loader: Loader) -> float:
        batches = self._batches(epoch, loader)
        self._losses = []
        sizes = [] if self.place.is_first else [self._part(b["target"]) for b in batches]
        with self.linked(sizes):
            super()._train_epoch(epoch, batches)
        for block_index in self.place.blocks:
            if self.place.replicas > 1:
                share_buffers(self.model[block_index], self.group, self.place.stage)
        per_step = torch.stack(self._losses)
        with explain_lost_rank():
            dist.all_reduce(per_step)
        # Added block by block in single precision, as the sequential schedule does.
        summed = sum(per_step.unbind(dim=1))
        assert isinstance(summed, Tensor)
        losses = [float(loss) for loss in summed]
        return sum(losses) / len(losses)

    def _part(self, target: Tensor) -> int:
        return len(shard(target, self.place)[0])

    def _load(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, target = super()._load(batch)
        target, self._share = shard(target, self.place)
        if self._inlet is not None:
            return self._arrange(self._inlet.receive()), target
        return shard(inputs, self.place)[0], target

    def _learn(self, inputs: Tensor, target: Tensor) -> StepResult:
        hidden_loss = self.rule.hidden_loss
        assert hidden_loss is not None
        blocks, resting = self.place.blocks, self.settings.resting
        give = None if self._outlet is None else self._outlet.send
        result = step_blocks(self.model, blocks, inputs, target, self.settings, hidden_loss, give)
        losses = torch.zeros(len(self.model))
        trained = [block_index for block_index in blocks if block_index not in resting]
        for block_index, loss in zip(trained, result.losses, strict=True):
            losses[block_index] = loss * self._share
            if self.place.replicas > 1:
                average_gradients(self.model[block_index], self.group, self._share)
        self._losses.append(losses)
        return result

    def _check_finite(self, result: StepResult, batch: Batch) -> None:
        try:
            super()._check_finite(result, batch)
        except NonFiniteLossError as error:
            # Blocks before this one have moved on: only the last epoch's state is whole.
            remedy = "Look at these samples, or lower training.learning_rate."
            raise NonFiniteLossError(error.where, error.problem, remedy) from error

    @torch.no_grad()
    def _validate(self, loader: Loader) -> tuple[float, tuple[float, ...]]:
        """As the sequential schedule does, each rank for its blocks; every rank gets all."""
        self.judged.eval()
        batches = self._batches(0, loader)
        sizes = [] if self.place.is_first else [len(batch["target"]) for batch in batches]
        scores, losses, count = torch.zeros(len(self.model)), 0.0, 0
        with self.linked(sizes):
            for batch in batches:
                target = batch["target"].to(self.device)
                outputs = self._judge(batch, target, scores)
                if self.place.is_last:
                    loss = global_loss(outputs.float().squeeze(1), target, self.target)
                    losses += float(loss) * len(target)
                count += len(target)
        told = torch.cat([torch.tensor([losses], dtype=torch.float64), scores.double()])
        if self.place.replica > 0:
            told.zero_()
        with explain_lost_rank():
            dist.all_reduce(told)
        return float(told[0]) / count, tuple(float(score) / count for score in told[1:])

    def _judge(self, batch: Batch, target: Tensor, scores: Tensor) -> Tensor:
        """Run own blocks on a batch, add to their scores; worker outputs of the last of them."""
        inputs = batch["inputs"] if self._inlet is None else self._inlet.receive()
        features = self._arrange(inputs)
        outputs = features
        for block_index in self.place.blocks:
            with self.settings.autocast():
                features = self.judged[block_index].body(features)
                if block_index == self.place.blocks[-1] and self._outlet is not None:
                    self._outlet.send(features)
                outputs = self.judged.read_out(block_index, features)
            scores[block_index] += self._score(outputs, target)
        return outputs

    def _save(self) -> None:
        """Merge the parts of the first replica's ranks into one checkpoint, written by rank 0."""
        merged = self._merge(self._state_tensors())
        if self.checkpoint_path is not None and merged is not None:
            state = self._state()
            save_checkpoint(Checkpoint(merged, state, self.run_hash), self.checkpoint_path)

    def _merge(self, own: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """All stages' tensors on rank 0; None on other ranks."""
        place = self.place
        if place.replica > 0:
            return None
        if not place.is_first:
            _send_bytes(save({name: t.contiguous() for name, t in own.items()}), 0)
            return None
        merged = dict(own)
        for stage in range(1, place.stages):
            merged |= load(_receive_bytes(stage))
        return merged

    def _restore(self) -> None:
        """Read the checkpoint on rank 0, which alone needs the file, and hand it to all."""
        path, is_reader = self.checkpoint_path, self.place.rank == 0
        is_there = is_reader and path is not None and path.exists()
        content = path.read_bytes() if is_there and path is not None else b""
        content = _broadcast_bytes(content, is_reader)
        if not content:
            return
        if is_reader:
            super()._restore()
            return
        with tempfile.TemporaryDirectory() as folder:
            self.checkpoint_path = Path(folder) / "checkpoint.safetensors"
            atomic_write_bytes(self.checkpoint_path, content)
            super()._restore()
        self.checkpoint_path = path

    def _load_state(self, checkpoint: Checkpoint) -> None:
        own = {name: t for name, t in checkpoint.tensors.items() if self._is_own(name)}
        super()._load_state(Checkpoint(own, checkpoint.state, checkpoint.run_hash))

    def _is_own(self, name: str) -> bool:
        found = _BLOCK_OF.search(name)
        return found is None or int(found.group(1)) in self.place.blocks

    def gather_model(self, whole: BlockStack) -> BlockStack:
        """Load all stages' weights into `whole`, on every rank."""
        state: dict[str, Tensor] = {}
        own = {name: t.cpu().contiguous() for name, t in self.model.state_dict().items()}
        for stage in range(self.place.stages):
            is_source = self.place.rank == stage
            state |= load(_broadcast_bytes(save(own) if is_source else b"", is_source, stage))
        whole.load_state_dict(state)
        return whole


class _Kept:
    """Batches in a list."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


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
