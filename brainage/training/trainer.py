"""The training loop: a ladder of small steps, the same for every method and schedule."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from brainage.config import Config
from brainage.errors import NonFiniteLossError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.rules import StepResult
from brainage.model.build import derive_seed, seeded
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.checks import check_finite_epoch
from brainage.training.resources import (
    Waited,
    explain_loop_errors,
    explain_memory_errors,
    peak_memory_mb,
    reset_peak_memory,
)
from brainage.training.schedules import Greedy, Schedule
from brainage.training.state import (
    Batch,
    FirstBatches,
    FitResult,
    Loader,
    TrainingState,
    weights_size,
)


class Trainer:
    """Train a BlockStack by the method of its configuration.

    Parameters
    ----------
    model : BlockStack
        Network with the heads that the method needs.
    config : Config
        Resolved settings.
    schedule : Schedule, optional
        Says which blocks learn in which step. Absent: the one that the method itself asks for.
    callbacks : sequence of Callback
        Told of every step and epoch.
    more
        Parameters of `TrainingState`.
    """

    def __init__(
        self,
        model: BlockStack,
        config: Config,
        *,
        schedule: Schedule | None = None,
        callbacks: Sequence[Callback] = (),
        **more: Any,
    ) -> None:
        self.state = TrainingState(model, config, **more)
        self.schedule = schedule or (Greedy() if self.state.rule.trains_in_turn else Schedule())
        self.callbacks = callbacks
        self._waited = Waited()

    @property
    def model(self) -> BlockStack:
        """The network in training; after `fit`, with the kept weights."""
        return self.state.model

    def fit(
        self, train_loader: Loader, validation_loader: Loader, resume: bool = False
    ) -> FitResult:
        """Train, validate after every epoch, stop early on validation, keep the chosen weights.

        Raises
        ------
        NonFiniteLossError
            If a loss or gradient is not finite; the weights are those before the batch.
        DeviceMemoryError
            If the device is too small.
        ConfigError, TrainingError
            If the schedule cannot follow the settings.
        CheckpointError
            If `resume` finds a checkpoint of another run.
        """
        state = self.state
        if resume:
            self.schedule.restore(state)
        reset_peak_memory(state.device)
        self.schedule.check(state)
        self._call("on_model", state.model)
        for record in state.history:
            self._call("on_past_epoch", record)
        self._call("on_fit_start", state.training.epochs, len(train_loader), len(state.history))
        try:
            with explain_loop_errors():
                while not self.schedule.is_over(state):
                    self.run_epoch(len(state.history) + 1, train_loader, validation_loader)
        finally:
            self._call("on_fit_end")
        return state.finish()

    def run_epoch(self, epoch: int, train_loader: Loader, validation_loader: Loader) -> None:
        """Train and validate one epoch, and keep the state."""
        state = self.state
        with seeded(state.config.seed, "epoch", epoch):
            state.shuffle.manual_seed(derive_seed(state.config.seed, "order", epoch))
            start = time.perf_counter()
            train_loss = self.train_epoch(epoch, train_loader)
            seconds = time.perf_counter() - start
        val_loss, scores = self.schedule.validate(state, validation_loader)
        if len(validation_loader):
            check_finite_epoch(epoch, val_loss)
        else:
            check_finite_epoch(epoch, weights_size(state), "a weight")
        before = state.history[-1].train_seconds_cumulative if state.history else 0.0
        record = EpochRecord(
            epoch,
            train_loss,
            val_loss,
            state.target.metric,
            scores[-1],
            scores,
            epoch_seconds=seconds,
            train_seconds_cumulative=before + seconds,
            peak_memory_mb=peak_memory_mb(state.device),
            data_seconds=self._waited.seconds,
        )
        state.add(record, self.schedule.is_best(state, record))
        self.schedule.save(state)
        self._call("on_epoch_end", record)

    def train_epoch(self, epoch: int, loader: Loader) -> float:
        """Learn from each batch once; returns the mean loss."""
        state, schedule, steps = self.state, self.schedule, len(loader)
        if state.training.iterations is not None:
            loader = FirstBatches(loader, state.training.iterations - (epoch - 1) * steps)
        state.model.train()
        state.settings = replace(state.settings, progress=(epoch - 1) / state.training.epochs)
        batches = schedule.batches(state, epoch, loader)
        losses = []
        for step, batch in enumerate(self._waited.through(batches)):
            self.set_learning_rate(epoch, step, steps)
            draws = partial(seeded, state.config.seed, "draws", epoch, step)
            state.settings = replace(state.settings, randomness=draws)
            schedule.begin_step(state, epoch, step)
            losses.append(self.train_step(batch))
            self._call("on_step_end", epoch, losses[-1])
        return schedule.end_epoch(state, losses)

    def train_step(self, batch: Batch) -> float:
        """Learn from one batch; returns the sum of the blocks' losses."""
        state = self.state
        inputs, target = self.schedule.load(state, batch)
        for block_index in state.learners:
            state.optimizers[block_index].zero_grad()
        with explain_memory_errors(len(target), tuple(inputs.shape[2:])):
            result = self.schedule.learn(state, inputs, target)
        self.clip_gradients(result, batch)
        for block_index in state.learners:
            state.optimizers[block_index].step()
        if state.averaged is not None:
            state.averaged.update_parameters(state.model)
        return float(sum(result.losses))

    def clip_gradients(self, result: StepResult, batch: Batch) -> None:
        """Clip the gradients of each block; refuse the step before any optimizer has moved.

        Raises
        ------
        NonFiniteLossError
            If a loss or gradient is not finite.
        """
        state = self.state
        bound = state.training.max_gradient_norm or math.inf
        norms = [
            nn.utils.clip_grad_norm_(list(state.model[k].parameters()), bound)
            for k in state.learners
        ]
        if all(math.isfinite(float(value)) for value in (*result.losses, *norms)):
            return
        names = ", ".join(state.names[int(i)] for i in batch["index"])
        losses = ", ".join(f"{float(loss):g}" for loss in result.losses)
        remedy = "Look at these samples, or lower training.learning_rate."
        raise NonFiniteLossError(
            "training",
            f"loss or gradient is not finite (losses of the blocks: {losses}) on {names}.",
            remedy + (" No weight was changed." if self.schedule.weights_stand else ""),
        )

    def set_learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> None:
        """Set the learning rate of a step, as the schedule says."""
        factor = self.schedule.rate_factor(self.state, epoch, step, steps_per_epoch)
        for optimizer in self.state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.state.training.learning_rate * factor

    def _call(self, hook: str, *arguments: object) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)
