"""Block-parallel training on one GPU: a CUDA stream for each block.

Kernels of block k on batch t and of block k − 1 on batch t + 1 may run at once, because nothing
flows back. Of use where one block's kernels do not fill the device. Not run on a GPU yet.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import HiddenLoss, StepSettings, train_block

BATCHES_AHEAD = 2


class StreamedBlocks:
    """Train all blocks of a stack, each on its own stream; batches stay in order in every block.

    Parameters
    ----------
    optimizers : sequence of torch.optim.Optimizer
        One a block.
    max_gradient_norm : float, optional
        Bound of each block's gradient.
    """

    def __init__(
        self,
        stack: BlockStack,
        optimizers: Sequence[Optimizer],
        settings: StepSettings,
        hidden_loss: HiddenLoss,
        max_gradient_norm: float | None = None,
    ) -> None:
        self._stack, self._optimizers = stack, optimizers
        self._settings, self._hidden_loss = settings, hidden_loss
        self._bound = max_gradient_norm
        self._streams = [torch.cuda.Stream() for _ in range(len(stack))]
        self._ends: deque[torch.cuda.Event] = deque()

    def step(self, inputs: Tensor, target_values: Tensor) -> list[Tensor]:
        """Queue one batch; returns each block's loss, to be read after `wait`.

        The device may lag `BATCHES_AHEAD` batches behind, so that memory stays bounded.
        """
        if len(self._ends) >= BATCHES_AHEAD:
            self._ends.popleft().synchronize()
        ready = torch.cuda.Event()
        ready.record()
        features, losses = inputs, []
        for block_index, stream in enumerate(self._streams):
            stream.wait_event(ready)
            # The allocator must not reuse what another stream still reads.
            features.record_stream(stream)
            target_values.record_stream(stream)
            with torch.cuda.stream(stream):
                features, loss, ready = self._train(block_index, features, target_values)
            losses.append(loss)
        end = torch.cuda.Event()
        end.record(self._streams[-1])
        self._ends.append(end)
        return losses

    def _train(
        self, block_index: int, features: Tensor, target_values: Tensor
    ) -> tuple[Tensor, Tensor, torch.cuda.Event]:
        optimizer, handed = self._optimizers[block_index], torch.cuda.Event()
        optimizer.zero_grad(set_to_none=True)
        trained = train_block(
            self._stack,
            block_index,
            features,
            target_values,
            self._settings,
            self._hidden_loss,
            # After the forward pass the next block may begin: before loss, backward and update.
            lambda _: handed.record(),
        )
        if self._bound is not None:
            nn.utils.clip_grad_norm_(list(self._stack[block_index].parameters()), self._bound)
        optimizer.step()
        return trained.features, trained.loss, handed

    def wait(self) -> None:
        """Wait for all blocks."""
        for stream in self._streams:
            stream.synchronize()
        self._ends.clear()
