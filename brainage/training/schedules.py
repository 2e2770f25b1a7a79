"""Schedules: objects handed to the `Trainer` that say which blocks learn in which step.

`Schedule` is the sequential one: every step trains all blocks, one after another. Others override
its hooks: `Greedy` here, `Progressive` and `Pipelined` in modules of their names. Each hook gets
the `TrainingState` that it works on.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from brainage.config import TrainingConfig
from brainage.lfnn.losses import global_loss
from brainage.lfnn.rules import StepResult
from brainage.lfnn.schedules import frozen_blocks, resting_blocks
from brainage.training.callbacks import EpochRecord
from brainage.training.checks import check_rests, check_turns
from brainage.training.state import Batch, Loader, TrainingState

RATE_STEPS, RATE_STEP = (0.5, 0.75, 0.89, 0.94), 0.25
"""Shares of the steps after which the rate falls, and by what factor (Nøkland & Eidnes 2019)."""


class Schedule:
    """Sequential schedule: each step trains every block. Base of the other schedules."""

    weights_stand = True
    """Whether no weight has moved when a step is refused."""

    def check(self, state: TrainingState) -> None:
        """Refuse settings that do not fit method and blocks, before training starts."""
        check_rests(state.config, len(state.model))

    def is_over(self, state: TrainingState) -> bool:
        """Tell whether training is over: all epochs are done, or validation has stalled."""
        done, patience = len(state.history), state.training.patience_epochs
        is_stalled = patience is not None and done - state.best_epoch >= patience
        return is_stalled or done >= state.training.epochs

    def batches(self, state: TrainingState, epoch: int, loader: Loader) -> Loader:
        """Batches that the epoch learns from."""
        return loader

    def rate_factor(self, state: TrainingState, epoch: int, step: int, steps: int) -> float:
        """Factor of the learning rate at a step (from 0) of an epoch (from 1) of `steps`."""
        return stretch_rate(state.training, (1, state.training.epochs), epoch, step, steps)

    def begin_step(self, state: TrainingState, epoch: int, step: int) -> None:
        """Set which blocks do not learn in this step."""
        freeze_after, update_every = state.learning.freeze_after, state.learning.update_every
        if freeze_after is None and update_every is None:
            return
        resting = resting_blocks(epoch, step, len(state.model), freeze_after, update_every)
        state.settings = replace(state.settings, resting=resting)
        for block_index in frozen_blocks(epoch, freeze_after):
            state.model[block_index].eval()

    def load(self, state: TrainingState, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a batch for `learn`."""
        return state.load(batch)

    def learn(self, state: TrainingState, inputs: Tensor, target: Tensor) -> StepResult:
        """Leave gradients in the blocks that learn; move no weight."""
        return state.rule.step(state.model, inputs, target, state.settings)

    def end_epoch(self, state: TrainingState, losses: list[float]) -> float:
        """Mean loss of the epoch's steps."""
        return sum(losses) / len(losses)

    @torch.no_grad()
    def validate(self, state: TrainingState, loader: Loader) -> tuple[float, tuple[float, ...]]:
        """Mean global loss, and the score of each block's own head."""
        state.judged.eval()
        losses, scores, count = 0.0, torch.zeros(len(state.model)), 0
        for batch in loader:
            inputs, target = state.arrange(batch["inputs"]), batch["target"].to(state.device)
            with state.settings.autocast():
                outputs = state.judged.block_outputs(inputs)
            for block_index, worker_outputs in enumerate(outputs):
                scores[block_index] += state.score(worker_outputs, target)
            final = outputs[-1]
            assert final is not None
            loss = global_loss(final.float().squeeze(1), target, state.target)
            losses += float(loss) * len(target)
            count += len(target)
        if not count:
            return math.nan, (math.nan,) * len(state.model)
        return losses / count, tuple(float(score) / count for score in scores)

    def is_best(self, state: TrainingState, record: EpochRecord) -> bool:
        """Tell whether an epoch, not yet in the history, is better than all before it."""
        best = state.history[state.best_epoch - 1].val_score if state.best_epoch else math.nan
        return math.isnan(best) or is_better(state, record.val_score, best)

    def save(self, state: TrainingState) -> None:
        """Keep the state after an epoch."""
        state.save(state.tensors())

    def restore(self, state: TrainingState) -> None:
        """Read back what `save` has kept, if there is anything."""
        if state.checkpoint_path is not None and state.checkpoint_path.exists():
            state.restore(state.checkpoint_path)


class Greedy(Schedule):
    """Greedy schedule: blocks train one after another, each with its own warm-up and cosine.

    The method's step itself passes the frozen blocks (`brainage.lfnn.methods.greedy`).
    """

    def check(self, state: TrainingState) -> None:
        """Refuse too few epochs, and early stopping."""
        super().check(state)
        check_turns(state.config, len(state.model))

    def rate_factor(self, state: TrainingState, epoch: int, step: int, steps: int) -> float:
        """Factor of the learning rate in the turn of the block that trains."""
        turn = (epoch - 1) * len(state.model) // state.training.epochs
        stretch = _start_turn(state, turn), _start_turn(state, turn + 1) - 1
        return stretch_rate(state.training, stretch, epoch, step, steps)

    def is_best(self, state: TrainingState, record: EpochRecord) -> bool:
        """Tell whether an epoch is the best of the last turn: before, the output has not learned.

        Until then the newest epoch is kept.
        """
        is_first = state.best_epoch < _start_turn(state, len(state.model) - 1)
        return is_first or super().is_best(state, record)


def _start_turn(state: TrainingState, turn: int) -> int:
    """Return the epoch, from 1, with which a block's turn of the greedy schedule starts."""
    return -(-turn * state.training.epochs // len(state.model)) + 1


def stretch_rate(
    training: TrainingConfig, stretch: tuple[int, int], epoch: int, step: int, steps: int
) -> float:
    """Linear warm-up, then what `training.schedule` says: a function of the step alone.

    Parameters
    ----------
    stretch : tuple of int
        First and last epoch in which the same blocks train.
    epoch, step, steps : int
        Epoch from 1, step of the epoch from 0, and steps of an epoch.
    """
    first, last = stretch
    warmup = training.warmup_epochs * steps
    total = last * steps
    if training.iterations is not None:
        total = min(total, training.iterations)
    total -= (first - 1) * steps
    done = (epoch - first) * steps + step
    if done < warmup:
        return (done + 1) / warmup
    floor = min(1.0, training.min_learning_rate / training.learning_rate)
    share = (done - warmup) / max(1, total - warmup)
    if training.schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
    if training.schedule == "linear":
        return floor + (1 - floor) * (1 - share)
    if training.schedule == "steps":
        return RATE_STEP ** sum(share >= mark for mark in RATE_STEPS)
    return 1.0


def is_better(state: TrainingState, score: float, best: float) -> bool:
    """Compare two validation scores; an error is better where it is lower."""
    return score > best if state.target.higher_is_better else score < best
