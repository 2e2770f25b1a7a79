"""The progressive schedule: block after block, each on the stored outputs of those before it.

While a block trains, no block before it runs (its outputs are stored) and none behind it. All that
decides follows from settings and history, so that a resumed run rebuilds its store and goes on to
the same bits.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from brainage.config import Config
from brainage.errors import TrainingError
from brainage.lfnn.blocks import BlockStack, measure_shape
from brainage.lfnn.rules import StepResult
from brainage.lfnn.schedules import (
    Convergence,
    Turn,
    block_features,
    current_turn,
    divide_epochs,
    step_one_block,
    turn_rate,
)
from brainage.lfnn.step import output_loss
from brainage.model.build import seeded
from brainage.training.callbacks import EpochRecord
from brainage.training.checks import check_progressive
from brainage.training.features import FeatureStore, StoredLoader, fill_store
from brainage.training.schedules import Schedule, is_better
from brainage.training.state import Batch, Loader, TrainingState


class Progressive(Schedule):
    """Progressive schedule: blocks take turns.

    The validation score of an epoch is that of the network's output, which exists in the last
    turn only (NaN before); each block's own score and loss are in the history from its turn.

    Parameters
    ----------
    config : Config
        Settings of the run.
    blocks : int
        Number of blocks K.
    ordered_loader : Loader
        All training samples in fixed order, augmented anew at each pass: what is stored.

    Raises
    ------
    ConfigError
        If the method has no loss of a block alone.
    TrainingError
        If there are too few epochs, or `training.patience_epochs` is set.
    """

    def __init__(self, config: Config, blocks: int, ordered_loader: Loader) -> None:
        check_progressive(config)
        self._ordered_loader = ordered_loader
        self._budgets = _divide(config, blocks)
        patience = config.learning.patience_epochs
        self._convergence = (
            None if patience is None else Convergence(patience, config.learning.min_improvement)
        )
        self._store: FeatureStore | None = None
        self._store_level = 0
        self._validation: list[Batch] = []
        self._validation_level = -1

    def check(self, state: TrainingState) -> None:
        """Refuse nothing: the constructor has done it."""

    def turn(self, state: TrainingState) -> Turn | None:
        """Turn that the next epoch belongs to; None when all are over."""
        losses = [record.val_loss for record in state.history]
        return current_turn(losses, self._budgets, self._convergence)

    def is_over(self, state: TrainingState) -> bool:
        """Tell whether the last turn is over."""
        return self.turn(state) is None

    def batches(self, state: TrainingState, epoch: int, loader: Loader) -> Loader:
        """Return frozen blocks' stored outputs; the first block sees scans augmented anew each time."""
        turn = self._active(state)
        state.learners = range(turn.block_index, turn.block_index + 1)
        if epoch == turn.first_epoch and turn.block_index > 0:
            _freeze(state, turn.block_index - 1)
        if turn.block_index == 0:
            return loader
        store = self.advance(state, turn.block_index)
        return StoredLoader(store, state.training.batch_size, state.shuffle)

    def rate_factor(self, state: TrainingState, epoch: int, step: int, steps: int) -> float:
        """Factor of the learning rate in the turn of the block that trains."""
        return turn_rate(self._active(state), epoch, step, steps, state.training.warmup_epochs)

    def begin_step(self, state: TrainingState, epoch: int, step: int) -> None:
        """Set nothing: blocks rest by their turn."""

    def learn(self, state: TrainingState, inputs: Tensor, target: Tensor) -> StepResult:
        """Leave gradients in the block that trains."""
        hidden_loss = state.rule.hidden_loss
        assert hidden_loss is not None
        block_index = self._active(state).block_index
        return step_one_block(state.model, block_index, inputs, target, state.settings, hidden_loss)

    @torch.no_grad()
    def validate(self, state: TrainingState, loader: Loader) -> tuple[float, tuple[float, ...]]:
        """Loss and score of the block that trains; of the others there is nothing new."""
        state.judged.eval()
        block_index = self._active(state).block_index
        losses, score, count = 0.0, 0.0, 0
        for batch in self._validation_batches(state, block_index, loader):
            target = batch["target"].to(state.device)
            features = _run_block(state, state.judged, block_index, batch["inputs"])
            with state.settings.autocast():
                outputs = state.judged.read_out(block_index, features).mean(dim=1)
            losses += float(output_loss(outputs, target, state.settings)) * len(target)
            score += state.score(outputs[:, None], target)
            count += len(target)
        scores = [math.nan] * len(state.model)
        scores[block_index] = score / count
        return losses / count, tuple(scores)

    def is_best(self, state: TrainingState, record: EpochRecord) -> bool:
        """Tell whether an epoch is the best of its turn, by the score of the block that trained."""
        turn = self._active(state)
        if state.best_epoch < turn.first_epoch:
            return True
        best = state.history[state.best_epoch - 1].block_val_scores[turn.block_index]
        return is_better(state, record.block_val_scores[turn.block_index], best)

    def advance(self, state: TrainingState, level: int) -> FeatureStore:
        """Bring the store to the input of block `level`; a resumed run starts from the scans."""
        shapes = _feature_shapes(state.model, state.config.input_shape)
        for block_index in range(self._store_level, level):
            self._store = fill_store(
                partial(self._variant, state),
                partial(_run_block, state, state.model, block_index),
                variants=state.learning.stored_variants,
                scans=len(state.names),
                feature_shape=shapes[block_index],
                folder=state.checkpoint_path.parent if state.checkpoint_path else None,
            )
            self._store_level = block_index + 1
        assert self._store is not None
        return self._store

    def _active(self, state: TrainingState) -> Turn:
        turn = self.turn(state)
        assert turn is not None
        return turn

    def _variant(self, state: TrainingState, variant: int) -> Iterator[Batch]:
        if self._store is not None:
            yield from self._store.in_order(variant, state.training.batch_size)
            return
        with seeded(state.config.seed, "variant", variant):
            yield from self._ordered_loader

    def _validation_batches(
        self, state: TrainingState, level: int, loader: Iterable[Batch]
    ) -> Iterable[Batch]:
        """Return validation samples as the block `level` sees them, computed once a turn."""
        if level == 0:
            return loader
        if self._validation_level != level:
            known = self._validation_level > 0
            batches = self._validation if known else list(loader)
            for block_index in range(self._validation_level if known else 0, level):
                batches = [
                    batch | {"inputs": _run_block(state, state.model, block_index, batch["inputs"])}
                    for batch in batches
                ]
            self._validation, self._validation_level = batches, level
        return self._validation


def _freeze(state: TrainingState, block_index: int) -> None:
    """Keep the block's weights that the settings ask for: best or last, averaged or not."""
    weights = state.judged.state_dict() if state.training.keep == "last" else state.best
    prefix = f"blocks.{block_index}."
    kept = {name: value for name, value in weights.items() if name.startswith(prefix)}
    state.model.load_state_dict(kept, strict=False)
    if state.averaged is not None:
        state.judged.load_state_dict(kept, strict=False)
    state.optimizers[block_index].state.clear()


def _run_block(state: TrainingState, stack: BlockStack, block_index: int, inputs: Tensor) -> Tensor:
    return block_features(stack, block_index, state.arrange(inputs), state.settings)


def _divide(config: Config, blocks: int) -> list[int]:
    try:
        return divide_epochs(config.training.epochs, blocks, config.learning.freeze_after)
    except ValueError as error:
        raise TrainingError(
            "training.epochs",
            f"{error}.",
            f"Use {blocks} or more epochs; learning.freeze_after names the {blocks - 1} hidden "
            "blocks' epochs, and leaves at least one to the output block.",
        ) from error


def _feature_shapes(model: BlockStack, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes, shape = [], input_shape
    for block_index in range(len(model)):
        shape = measure_shape(model[block_index].body, shape)
        shapes.append(shape)
    return shapes
