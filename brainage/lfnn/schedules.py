"""When which block trains: all in every step (sequential), or one after another (progressive).

Tensors and numbers only. What local learning allows and backpropagation does not: a block that
has converged is frozen, and its outputs are computed once and kept, so that the next block starts
from there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import HiddenLoss, StepResult, StepSettings, train_block

ANNEALED_SHARE = 0.5


@dataclass(frozen=True)
class Convergence:
    """When a block has learned enough.

    Attributes
    ----------
    patience_epochs : int
        Epochs of its turn that may pass without a better validation loss.
    min_improvement : float
        Share of the best loss so far by which an epoch must be better to count.
    """

    patience_epochs: int
    min_improvement: float = 0.0

    def stalls_at(self, losses: Sequence[float]) -> int | None:
        """Find the first epoch, from 1, after which the losses have stalled; None: never."""
        best, best_epoch = math.inf, 0
        for epoch, loss in enumerate(losses, start=1):
            if loss < best - self.min_improvement * abs(best) or best_epoch == 0:
                best, best_epoch = loss, epoch
            elif epoch - best_epoch >= self.patience_epochs:
                return epoch
        return None


@dataclass(frozen=True)
class Turn:
    """The epochs in which one block trains.

    Attributes
    ----------
    block_index : int
        Whose turn it is.
    first_epoch, last_epoch : int
        Of the whole training, from 1; a block that stalls has its last epoch moved forward.
    anneal_after : int
        Epoch of the turn, from 0, after which the learning rate falls to zero.
    """

    block_index: int
    first_epoch: int
    last_epoch: int
    anneal_after: int


def divide_epochs(epochs: int, blocks: int, freeze_after: Sequence[int] | None = None) -> list[int]:
    """Divide the epochs among the blocks: the most that the turn of each may last.

    Parameters
    ----------
    freeze_after : sequence of int (K - 1,), optional
        Of the hidden blocks; the output block gets the rest. Absent: the first block, which works
        on the largest maps, gets half of what each other block gets.

    Raises
    ------
    ValueError
        If a block would have no epoch.
    """
    if freeze_after is None:
        marks = [round(epochs * (2 * k + 1) / (2 * blocks - 1)) for k in range(blocks)]
        shares = [mark - before for before, mark in zip([0, *marks], marks, strict=False)]
    else:
        shares = [*freeze_after, epochs - sum(freeze_after)]
    if len(shares) != blocks or min(shares) < 1:
        raise ValueError(f"{epochs} epochs do not give each of {blocks} blocks a turn: {shares}")
    return shares


def current_turn(
    losses: Sequence[float], budgets: Sequence[int], convergence: Convergence | None
) -> Turn | None:
    """Whose turn the next epoch is, told by the validation losses of all epochs so far.

    Nothing else is remembered, so that a resumed run comes to the same answer. A turn holds the
    learning rate, and lets it fall to zero over its last part (`ANNEALED_SHARE` of the budget). A
    block that stalls before starts to fall at once: its turn is over early, and the epochs it
    leaves are saved, not passed on. A loss that stalls while the rate falls changes nothing.
    Without a convergence rule every turn is a full cosine over its budget.

    Returns
    -------
    Turn or None
        None when the last turn is over.
    """
    first = 1
    for block_index, budget in enumerate(budgets):
        annealed = budget if convergence is None else max(1, int(ANNEALED_SHARE * budget))
        held = budget - annealed
        if convergence is not None:
            stalled = convergence.stalls_at(losses[first - 1 : first - 1 + held])
            held = held if stalled is None else stalled
        last = first + held + annealed - 1
        if len(losses) < last:
            return Turn(block_index, first, last, held)
        first = last + 1
    return None


def turn_rate(turn: Turn, epoch: int, step: int, steps_per_epoch: int, warmup_epochs: int) -> float:
    """Factor of the learning rate: linear warm-up, constant, half a cosine to zero."""
    done = (epoch - turn.first_epoch) * steps_per_epoch + step
    total = (turn.last_epoch - turn.first_epoch + 1) * steps_per_epoch
    warmup = min(warmup_epochs * steps_per_epoch, total // 2)
    start = max(warmup, turn.anneal_after * steps_per_epoch)
    factor = min(1.0, (done + 1) / warmup) if warmup else 1.0
    if done >= start:
        factor = 0.5 * (1 + math.cos(math.pi * (done - start) / max(1, total - start)))
    return factor


def step_one_block(
    stack: BlockStack,
    block_index: int,
    features: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    loss_of_hidden: HiddenLoss,
) -> StepResult:
    """Train one block on what the blocks before it gave; no other block runs."""
    trained = train_block(stack, block_index, features, target_values, settings, loss_of_hidden)
    return StepResult(trained.outputs.mean(dim=1), (trained.loss,))


@torch.no_grad()
def block_features(
    stack: BlockStack, block_index: int, features: Tensor, settings: StepSettings
) -> Tensor:
    """Compute a frozen block's outputs in evaluation mode: its batch statistics stay."""
    body = stack[block_index].body.eval()
    with settings.autocast():
        given: Tensor = body(features)
    return given


def resting_blocks(
    epoch: int,
    step: int,
    blocks: int,
    freeze_after: Sequence[int] | None,
    update_every: Sequence[int] | None,
) -> frozenset[int]:
    """Hidden blocks that only hand their features on in this step.

    Parameters
    ----------
    epoch, step : int
        Epoch from 1, step of the epoch from 0.
    freeze_after : sequence of int (K - 1,), optional
        Epochs after which each hidden block is frozen.
    update_every : sequence of int (K - 1,), optional
        Each hidden block learns in every n-th step only.
    """
    resting = frozen_blocks(epoch, freeze_after)
    if update_every is not None:
        resting |= {k for k in range(blocks - 1) if step % update_every[k]}
    return resting


def frozen_blocks(epoch: int, freeze_after: Sequence[int] | None) -> frozenset[int]:
    """Hidden blocks that no longer change in this epoch."""
    return frozenset(k for k, last in enumerate(freeze_after or ()) if epoch > last)
