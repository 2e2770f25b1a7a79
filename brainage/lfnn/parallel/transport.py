"""The pipelined schedule: block k works on batch t − k while block k − 1 works on the next one.

Local learning needs nothing from the blocks behind: what crosses a boundary are detached
activations, forward only, so that K processes work at once with no staleness. Batches stay in
order, therefore every block sees the same inputs, labels and draws as in the sequential schedule,
and on a CPU the weights are the same to the bit (with as many torch threads).

Tensors and `torch.distributed` only. A rank is one process; it holds a stretch of neighbouring
blocks (its *stage* of the pipeline) in one of R replicas.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from brainage.errors import BrainageError, first_line
from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.step import StepSettings

BUFFERS = 2
"""Batches that may be under way between two stages: one is worked on, one is ready."""


class RankLostError(BrainageError):
    """Another process of the pipeline is gone."""


@dataclass(frozen=True)
class Place:
    """Where a rank stands in the mesh of stages and replicas.

    Attributes
    ----------
    stage, stages : int
        Position in the pipeline, and its length.
    replica, replicas : int
        Which of the data-parallel copies of the pipeline this is.
    blocks : range
        Blocks of the network that this stage holds.
    """

    stage: int
    stages: int
    replica: int
    replicas: int
    blocks: range

    @property
    def rank(self) -> int:
        """Number of the process: replicas of a stage are `stages` apart."""
        return self.replica * self.stages + self.stage

    @property
    def is_first(self) -> bool:
        """Whether this stage reads the data."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether this stage gives the network's output."""
        return self.stage == self.stages - 1


def place_ranks(groups: Sequence[range], replicas: int) -> list[Place]:
    """Places of all ranks, in the order of ranks.

    Parameters
    ----------
    groups : sequence of range
        Blocks of each stage; see `group_blocks`.
    """
    stages = len(groups)
    return [
        Place(stage, stages, replica, replicas, groups[stage])
        for replica in range(replicas)
        for stage in range(stages)
    ]


def keep_blocks(stack: BlockStack, blocks: range) -> BlockStack:
    """Empty all other blocks of a stack: names of weights stay, memory is freed."""
    return BlockStack(
        [
            stack[index] if index in blocks else LocalBlock(nn.Sequential(), None)
            for index in range(len(stack))
        ]
    )


@torch.no_grad()
def incoming(
    stack: BlockStack, first_block: int, input_shape: tuple[int, ...], settings: StepSettings
) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape of one sample, and dtype, of what block `first_block` works on."""
    was_training = stack.training
    device = next(stack.parameters()).device
    stack.eval()
    features = torch.zeros(1, *input_shape, device=device)
    with settings.autocast():
        for block_index in range(first_block):
            features = stack[block_index].body(features)
    stack.train(was_training)
    return tuple(features.shape[1:]), features.dtype


class Inlet:
    """Receives the batches of the stage before, in order, one ahead of the work.

    Parameters
    ----------
    source : int
        Rank that sends.
    sizes : sequence of int
        Samples of each batch that will come; both sides know them from the sampler.
    shape, dtype
        Of one sample.
    """

    def __init__(
        self,
        source: int,
        sizes: Sequence[int],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._source, self._sizes = source, iter(sizes)
        self._shape, self._dtype, self._device = shape, dtype, device
        self._posted: deque[tuple[Tensor, dist.Work]] = deque()
        for _ in range(BUFFERS):
            self._post()

    def receive(self) -> Tensor:
        """Wait for the next batch (B, ...)."""
        buffer, work = self._posted.popleft()
        wait(work, self._source)
        self._post()
        return buffer

    def _post(self) -> None:
        size = next(self._sizes, None)
        if size is None:
            return
        buffer = torch.empty(size, *self._shape, dtype=self._dtype, device=self._device)
        with explain_lost_rank(self._source):
            work = dist.irecv(buffer, self._source)
        assert work is not None
        self._posted.append((buffer, work))


class Outlet:
    """Sends batches to the stage behind without waiting, until `BUFFERS` are under way."""

    def __init__(self, receiver: int) -> None:
        self._receiver = receiver
        self._pending: deque[tuple[Tensor, dist.Work]] = deque()

    def send(self, features: Tensor) -> None:
        """Start sending detached features (B, ...); waits only where the receiver is behind."""
        if len(self._pending) >= BUFFERS:
            wait(self._pending.popleft()[1], self._receiver)
        # Kept until it is sent: the allocator must not hand the memory out meanwhile.
        features = features.detach().contiguous()
        with explain_lost_rank(self._receiver):
            work = dist.isend(features, self._receiver)
        assert work is not None
        self._pending.append((features, work))

    def drain(self) -> None:
        """Wait until everything has arrived."""
        while self._pending:
            wait(self._pending.popleft()[1], self._receiver)


def wait(work: dist.Work, rank: int) -> None:
    """Wait for a message from or to a rank.

    Raises
    ------
    RankLostError
        If the rank is gone.
    """
    with explain_lost_rank(rank):
        work.wait()


@contextmanager
def explain_lost_rank(rank: int | None = None) -> Iterator[None]:
    """Turn the backend's error about a vanished process into one line.

    Raises
    ------
    RankLostError
        Instead of the backend's error.
    """
    try:
        yield
    except RuntimeError as error:
        raise RankLostError(
            "a process" if rank is None else f"process {rank}",
            f"is gone, or does not answer ({first_line(error)}).",
            "Go on from the last finished epoch with --resume.",
        ) from error


def average_gradients(block: nn.Module, group: dist.ProcessGroup, share: float) -> None:
    """Sum a block's gradients over its replicas, each weighted by its share of the batch.

    One message for all of them. Where the loss is a mean over samples this is the gradient of
    the whole batch (Li et al. 2020, arXiv 2006.15704).
    """
    gradients = [p.grad for p in block.parameters() if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients]).mul_(share)
    with explain_lost_rank():
        dist.all_reduce(flat, group=group)
    pieces = flat.split([gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


def share_buffers(block: nn.Module, group: dist.ProcessGroup, source: int) -> None:
    """Give all replicas of a block the batch statistics of one of them."""
    for buffer in block.buffers():
        with explain_lost_rank():
            dist.broadcast(buffer, source, group=group)


def shard(values: Tensor, place: Place) -> tuple[Tensor, float]:
    """Return a replica's part of a batch (B, ...), and the share of the batch that it is.

    A batch that would give a replica fewer than two samples (batch normalisation cannot learn
    from one) is worked on whole by every replica.
    """
    if place.replicas == 1 or len(values) < 2 * place.replicas:
        return values, 1.0 / place.replicas
    part = values.tensor_split(place.replicas)[place.replica]
    return part, len(part) / len(values)
