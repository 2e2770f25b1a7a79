"""The progressive schedule: block after block, each on the stored outputs of those before it.

While a block trains, no block before it runs (its outputs are stored) and none behind it. All that
decides follows from settings and history, so that a resumed run rebuilds its store and goes on to
the same bits.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

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
from brainage.training.features import Batch, FeatureStore, StoredLoader, fill_store
from brainage.training.trainer import Loader, Trainer


class ProgressiveTrainer(Trainer):
    """A trainer whose blocks take turns.

    The validation score of an epoch is that of the network's output, which exists in the last
    turn only (NaN before); each block's own score and loss are in the history from its turn.

    Parameters
    ----------
    ordered_loader : Loader
        All training samples in fixed order, augmented anew at each pass: what is stored.

    Raises
    ------
    ConfigError
        If the method has no loss of a block alone.
    TrainingError
        If there are too few epochs, or `training.patience_epochs` is set.
    """

    def __init__(
        self, model: BlockStack, config: Config, *, ordered_loader: Loader, **more: Any
    ) -> None:
        super().__init__(model, config, **more)
        check_progressive(config)
        self.ordered_loader = ordered_loader
        self.budgets = _deal(config, len(model))
        patience = self.learning.patience_epochs
        self.convergence = (
            None if patience is None else Convergence(patience, self.learning.min_improvement)
        )
        self.shapes = _feature_shapes(model, config.input_shape)
        self._store: FeatureStore | None = None
        self._store_level = 0
        self._validation: list[Batch] = []
        self._validation_level = -1

    @property
    def turn(self) -> Turn | None:
        """Whose turn the next epoch is."""
        losses = [record.val_loss for record in self.history]
        return current_turn(losses, self.budgets, self.convergence)

    def _active(self) -> Turn:
        turn = self.turn
        assert turn is not None
        return turn

    def _is_over(self) -> bool:
        return self.turn is None

    def _check(self) -> None:
        """`check_progressive` has done it."""

    def _batches(self, epoch: int, loader: Loader) -> Loader:
        """Frozen blocks' stored outputs; the first block sees scans augmented anew each time."""
        turn = self._active()
        self.learners = range(turn.block_index, turn.block_index + 1)
        if epoch == turn.first_epoch and turn.block_index > 0:
            self._freeze(turn.block_index - 1)
        if turn.block_index == 0:
            return loader
        store = self._advance(turn.block_index)
        return StoredLoader(store, self.training.batch_size, self.shuffle)

    def _freeze(self, block_index: int) -> None:
        """Keep the block's weights that the settings ask for: best or last, averaged or not."""
        state = self.judged.state_dict() if self.training.keep == "last" else self.best
        prefix = f"blocks.{block_index}."
        kept = {name: value for name, value in state.items() if name.startswith(prefix)}
        self.model.load_state_dict(kept, strict=False)
        if self.averaged is not None:
            self.judged.load_state_dict(kept, strict=False)
        self.optimizers[block_index].state.clear()

    def _advance(self, level: int) -> FeatureStore:
        """Bring the store to the input of block `level`; a resumed run starts from the scans."""
        for block_index in range(self._store_level, level):
            self._store = fill_store(
                self._variant,
                partial(self._run_block, self.model, block_index),
                variants=self.learning.stored_variants,
                scans=len(self.names),
                feature_shape=self.shapes[block_index],
                folder=self.checkpoint_path.parent if self.checkpoint_path else None,
            )
            self._store_level = block_index + 1
        assert self._store is not None
        return self._store

    def _variant(self, variant: int) -> Iterator[Batch]:
        if self._store is not None:
            yield from self._store.in_order(variant, self.training.batch_size)
            return
        with seeded(self.config.seed, "variant", variant):
            yield from self.ordered_loader

    def _run_block(self, stack: BlockStack, block_index: int, inputs: Tensor) -> Tensor:
        return block_features(stack, block_index, self._arrange(inputs), self.settings)

    def _learn(self, inputs: Tensor, target: Tensor) -> StepResult:
        hidden_loss = self.rule.hidden_loss
        assert hidden_loss is not None
        block_index = self._active().block_index
        return step_one_block(self.model, block_index, inputs, target, self.settings, hidden_loss)

    def _let_rest(self, epoch: int, step: int) -> None:
        """Blocks rest by their turn."""

    def _rate_factor(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        warmup = self.training.warmup_epochs
        return turn_rate(self._active(), epoch, step, steps_per_epoch, warmup)

    @torch.no_grad()
    def _validate(self, loader: Loader) -> tuple[float, tuple[float, ...]]:
        """Loss and score of the block whose turn it is; of the others there is nothing new."""
        self.judged.eval()
        block_index = self._active().block_index
        losses, score, count = 0.0, 0.0, 0
        for batch in self._validation_batches(block_index, loader):
            target = batch["target"].to(self.device)
            features = self._run_block(self.judged, block_index, batch["inputs"])
            with self.settings.autocast():
                outputs = self.judged.read_out(block_index, features).mean(dim=1)
            losses += float(output_loss(outputs, target, self.settings)) * len(target)
            score += self._score(outputs[:, None], target)
            count += len(target)
        scores = [math.nan] * len(self.model)
        scores[block_index] = score / count
        return losses / count, tuple(scores)

    def _validation_batches(self, level: int, loader: Iterable[Batch]) -> Iterable[Batch]:
        """Return validation samples as the block `level` sees them, computed once a turn."""
        if level == 0:
            return loader
        if self._validation_level != level:
            known = self._validation_level > 0
            batches = self._validation if known else list(loader)
            for block_index in range(self._validation_level if known else 0, level):
                batches = [
                    {**batch, "inputs": self._run_block(self.model, block_index, batch["inputs"])}
                    for batch in batches
                ]
            self._validation, self._validation_level = batches, level
        return self._validation

    def _is_best(self, record: EpochRecord) -> bool:
        """Best of its turn, by the score of the block whose turn it was."""
        turn = current_turn([r.val_loss for r in self.history[:-1]], self.budgets, self.convergence)
        assert turn is not None
        if self.best_epoch < turn.first_epoch:
            return True
        best = self.history[self.best_epoch - 1].block_val_scores[turn.block_index]
        score = record.block_val_scores[turn.block_index]
        return score > best if self.target.higher_is_better else score < best


def build_trainer(
    model: BlockStack, config: Config, *, ordered_loader: Loader, **more: Any
) -> Trainer:
    """Return the trainer of the configured schedule; see `Trainer` and `ProgressiveTrainer`."""
    if config.learning.schedule == "progressive":
        return ProgressiveTrainer(model, config, ordered_loader=ordered_loader, **more)
    return Trainer(model, config, **more)


def _deal(config: Config, blocks: int) -> list[int]:
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
