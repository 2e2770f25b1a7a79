"""The training loop: a ladder of small steps, the same for every method."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from brainage.config import Config
from brainage.errors import CheckpointError, NonFiniteLossError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import global_loss
from brainage.lfnn.rules import METHOD_RULES, StepResult, StepSettings
from brainage.lfnn.schedules import frozen_blocks, resting_blocks
from brainage.loading.mixing import mix_batch
from brainage.model.build import build_target, derive_seed, seeded
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.checkpoint import (
    START_ANEW,
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizers,
    save_checkpoint,
)
from brainage.training.checks import check_finite_epoch, check_rests, check_turns
from brainage.training.resources import (
    Waited,
    build_autocast,
    choose_memory_format,
    explain_loop_errors,
    explain_memory_errors,
    keep_freed_memory,
    peak_memory_mb,
    reset_peak_memory,
)

Batch = dict[str, Tensor]


class Loader(Protocol):
    """Batches {"inputs": (B, C, ...), "target": (B,), "index": (B,)}."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class FitResult:
    """What training gave; the model holds the kept weights.

    Attributes
    ----------
    history : tuple of EpochRecord
        One record an epoch, resumed epochs included.
    kept_epoch : int
        Epoch whose weights the model holds.
    """

    history: tuple[EpochRecord, ...]
    kept_epoch: int


class Trainer:
    """Train a BlockStack by the method of its configuration; one optimizer a block.

    Parameters
    ----------
    model : BlockStack
        Network with the heads that the method needs.
    config : Config
        Resolved settings.
    names : sequence of str
        Names of the samples for the loaders' ``index``, for messages only.
    shuffle : torch.Generator
        Generator of the training loader's order; seeded anew for each epoch.
    checkpoint_path : pathlib.Path, optional
        Where the state is kept after each epoch.
    run_hash : str
        Identity of settings and data; a checkpoint with another one is refused.
    """

    def __init__(
        self,
        model: BlockStack,
        config: Config,
        *,
        names: Sequence[str],
        shuffle: torch.Generator,
        device: torch.device | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint_path: Path | None = None,
        run_hash: str = "",
    ) -> None:
        self.device = device or torch.device("cpu")
        keep_freed_memory(self.device)
        self.format = choose_memory_format(config.training.memory_format, config.input_shape)
        # The stub of `to` knows no memory format.
        self.model = model.to(self.device, memory_format=self.format)  # type: ignore[call-overload]
        self.config, self.training, self.learning = config, config.training, config.learning
        self.names, self.shuffle, self.callbacks = names, shuffle, callbacks
        self.checkpoint_path, self.run_hash = checkpoint_path, run_hash
        self.target = build_target(config.target)
        self.rule = METHOD_RULES[config.learning.method]
        self.settings = StepSettings(
            target=self.target,
            leader_fraction=config.learning.leader_fraction,
            leader_weight=config.learning.leader_weight,
            follower_weight=config.learning.follower_weight,
            selection=config.learning.selection,
            follower_space=config.learning.follower_space,
            autocast=build_autocast(self.training.precision, self.device),
            recomputes=self.training.recompute,
        )
        self.optimizers = [self._build_optimizer(block) for block in model.blocks]
        self.learners = range(len(model))  # blocks that a step may change
        self.averaged = self._build_average()
        self.waited = Waited()
        self.history: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0

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
        TrainingError
            If blocks train in turn and there are fewer epochs than blocks.
        CheckpointError
            If `resume` finds a checkpoint of another run.
        """
        if resume:
            self._restore()
        reset_peak_memory(self.device)
        epochs = self.training.epochs
        self._check()
        self._call("on_model", self.model)
        self._call("on_fit_start", epochs, len(train_loader), len(self.history))
        try:
            with explain_loop_errors():
                while not self._is_over():
                    self._run_epoch(len(self.history) + 1, train_loader, validation_loader)
        finally:
            self._call("on_fit_end")
        return self._finish()

    def _run_epoch(self, epoch: int, train_loader: Loader, validation_loader: Loader) -> None:
        with seeded(self.config.seed, "epoch", epoch):
            self.shuffle.manual_seed(derive_seed(self.config.seed, "order", epoch))
            start = time.perf_counter()
            train_loss = self._train_epoch(epoch, train_loader)
            seconds = time.perf_counter() - start
        val_loss, scores = self._validate(validation_loader)
        check_finite_epoch(epoch, val_loss)
        before = self.history[-1].train_seconds_cumulative if self.history else 0.0
        record = EpochRecord(
            epoch,
            train_loss,
            val_loss,
            self.target.metric,
            scores[-1],
            scores,
            epoch_seconds=seconds,
            train_seconds_cumulative=before + seconds,
            peak_memory_mb=peak_memory_mb(self.device),
            data_seconds=self.waited.seconds,
        )
        self.history.append(record)
        if self._is_best(record):
            self.best_epoch = epoch
            self.best = {name: value.clone() for name, value in self.judged.state_dict().items()}
        self._save()
        self._call("on_epoch_end", record)

    def _train_epoch(self, epoch: int, loader: Loader) -> float:
        self.model.train()
        self.settings = replace(self.settings, progress=(epoch - 1) / self.training.epochs)
        losses = []
        for step, batch in enumerate(self.waited.through(self._batches(epoch, loader))):
            self._set_learning_rate(epoch, step, len(loader))
            draws = partial(seeded, self.config.seed, "draws", epoch, step)
            self.settings = replace(self.settings, randomness=draws)
            self._let_rest(epoch, step)
            losses.append(self.train_step(batch))
            self._call("on_step_end", epoch, losses[-1])
        return sum(losses) / len(losses)

    def train_step(self, batch: Batch) -> float:
        """One step of all learners on one batch; returns the sum of the blocks' losses."""
        inputs, target = self._load(batch)
        for block_index in self.learners:
            self.optimizers[block_index].zero_grad()
        with explain_memory_errors(len(target), tuple(inputs.shape[2:])):
            result = self._learn(inputs, target)
        self._check_finite(result, batch)
        for block_index in self.learners:
            self.optimizers[block_index].step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return float(sum(result.losses))

    def _load(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a batch on the device, mixed where the settings say so."""
        inputs, target = self._arrange(batch["inputs"]), batch["target"].to(self.device)
        with self.settings.randomness("mixup"):
            return mix_batch(inputs, target, self.training.mixup_alpha)

    def _batches(self, epoch: int, loader: Loader) -> Loader:
        """Return what the epoch learns from; another schedule may have something better."""
        return loader

    def _arrange(self, inputs: Tensor) -> Tensor:
        # Tokens and vectors have one order.
        order = torch.preserve_format if inputs.ndim < 4 else self.format
        return inputs.to(self.device, memory_format=order)

    def _learn(self, inputs: Tensor, target: Tensor) -> StepResult:
        return self.rule.step(self.model, inputs, target, self.settings)

    def _let_rest(self, epoch: int, step: int) -> None:
        """Return settings and modes of the blocks that do not learn in this step."""
        freeze_after, update_every = self.learning.freeze_after, self.learning.update_every
        if freeze_after is None and update_every is None:
            return
        resting = resting_blocks(epoch, step, len(self.model), freeze_after, update_every)
        self.settings = replace(self.settings, resting=resting)
        for block_index in frozen_blocks(epoch, freeze_after):
            self.model[block_index].eval()

    def _check_finite(self, result: StepResult, batch: Batch) -> None:
        """Refuse the step before any optimizer has moved; clips the gradients on the way."""
        bound = self.training.max_gradient_norm or math.inf
        norms = [
            nn.utils.clip_grad_norm_(list(self.model[k].parameters()), bound) for k in self.learners
        ]
        if all(math.isfinite(float(value)) for value in (*result.losses, *norms)):
            return
        names = ", ".join(self.names[int(i)] for i in batch["index"])
        losses = ", ".join(f"{float(loss):g}" for loss in result.losses)
        raise NonFiniteLossError(
            "training",
            f"loss or gradient is not finite (losses of the blocks: {losses}) on {names}.",
            "Look at these samples, or lower training.learning_rate. No weight was changed.",
        )

    @torch.no_grad()
    def _validate(self, loader: Loader) -> tuple[float, tuple[float, ...]]:
        """Mean global loss, and the score of each block's own head."""
        self.judged.eval()
        losses, scores, count = 0.0, torch.zeros(len(self.model)), 0
        for batch in loader:
            inputs, target = self._arrange(batch["inputs"]), batch["target"].to(self.device)
            with self.settings.autocast():
                outputs = self.judged.block_outputs(inputs)
            for block_index, worker_outputs in enumerate(outputs):
                scores[block_index] += self._score(worker_outputs, target)
            final = outputs[-1]
            assert final is not None
            loss = global_loss(final.float().squeeze(1), target, self.target)
            losses += float(loss) * len(target)
            count += len(target)
        return losses / count, tuple(float(score) / count for score in scores)

    def _score(self, outputs: Tensor | None, target: Tensor) -> float:
        if outputs is None:
            return math.nan
        return float(self.target.score(outputs.float().mean(dim=1), target).sum())

    def _is_best(self, record: EpochRecord) -> bool:
        best = self.history[self.best_epoch - 1].val_score if self.best_epoch else math.nan
        is_higher, is_lower = record.val_score > best, record.val_score < best
        return math.isnan(best) or (is_higher if self.target.higher_is_better else is_lower)

    @property
    def judged(self) -> BlockStack:
        """The network that is validated and kept: the averaged weights where there are any."""
        if self.averaged is None:
            return self.model
        module = self.averaged.module
        assert isinstance(module, BlockStack)
        return module

    def _build_average(self) -> AveragedModel | None:
        decay = self.training.ema_decay
        if decay is None:
            return None
        return AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def _build_optimizer(self, block: nn.Module) -> Optimizer:
        rate, decay = self.training.learning_rate, self.training.weight_decay
        # A block may have no weights; an optimizer wants at least one parameter.
        parameters = list(block.parameters()) or [nn.Parameter(torch.zeros(()))]
        if self.training.optimizer == "sgd":
            return SGD(
                parameters, rate, momentum=0.9, weight_decay=decay, nesterov=True, fused=True
            )
        return AdamW(parameters, lr=rate, weight_decay=decay, fused=True)

    def _set_learning_rate(self, epoch: int, step: int, steps_per_epoch: int) -> None:
        """Linear warm-up, then constant or half a cosine to zero: a function of the step alone.

        Where blocks train in turn, each turn has its own warm-up and cosine.
        """
        factor = self._rate_factor(epoch, step, steps_per_epoch)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.training.learning_rate * factor

    def _rate_factor(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        first, last = self._turn(epoch)
        warmup = self.training.warmup_epochs * steps_per_epoch
        total = (last - first + 1) * steps_per_epoch
        done = (epoch - first) * steps_per_epoch + step
        factor = min(1.0, (done + 1) / warmup) if warmup else 1.0
        if self.training.schedule == "cosine" and done >= warmup:
            factor = 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, total - warmup)))
        return factor

    def _turn(self, epoch: int) -> tuple[int, int]:
        """First and last epoch of the stretch in which the same blocks train."""
        epochs = self.training.epochs
        turns = len(self.model) if self.rule.trains_in_turn else 1
        turn = (epoch - 1) * turns // epochs
        return -(-turn * epochs // turns) + 1, -(-(turn + 1) * epochs // turns)

    def _check(self) -> None:
        check_rests(self.config, len(self.model))
        check_turns(self.config, len(self.model))

    def _is_over(self) -> bool:
        patience = self.training.patience_epochs
        is_stalled = patience is not None and len(self.history) - self.best_epoch >= patience
        return is_stalled or len(self.history) >= self.training.epochs

    def _finish(self) -> FitResult:
        if self.training.keep == "best":
            self.model.load_state_dict(self.best)
            return FitResult(tuple(self.history), self.best_epoch)
        if self.averaged is not None:
            self.model.load_state_dict(self.judged.state_dict())
        return FitResult(tuple(self.history), len(self.history))

    def _save(self) -> None:
        if self.checkpoint_path is None:
            return
        checkpoint = Checkpoint(self._state_tensors(), self._state(), self.run_hash)
        save_checkpoint(checkpoint, self.checkpoint_path)

    def _state(self) -> dict[str, Any]:
        return {"history": [asdict(r) for r in self.history], "best_epoch": self.best_epoch}

    def _state_tensors(self) -> dict[str, Tensor]:
        """All that training needs to go on, and the best weights, by the checkpoint's names."""
        tensors = {f"model.{k}": v.cpu() for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v.cpu() for k, v in self.best.items()}
        tensors |= optimizer_tensors(self.optimizers)
        if self.averaged is not None:
            tensors |= {f"averaged.{k}": v.cpu() for k, v in self.averaged.state_dict().items()}
        return tensors

    def _restore(self) -> None:
        if (path := self.checkpoint_path) is None or not path.exists():
            return
        checkpoint = load_checkpoint(path, self.run_hash)
        try:
            self._load_state(checkpoint)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(str(path), "does not hold this run.", START_ANEW) from error

    def _load_state(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.group("model"))
        if self.averaged is not None:
            self.averaged.load_state_dict(checkpoint.group("averaged"))
        self.best = {name: t.to(self.device) for name, t in checkpoint.group("best").items()}
        self.best_epoch = int(checkpoint.state["best_epoch"])
        self.history = [
            EpochRecord(**{**row, "block_val_scores": tuple(row["block_val_scores"])})
            for row in checkpoint.state["history"]
        ]
        restore_optimizers(self.optimizers, checkpoint)

    def _call(self, hook: str, *arguments: object) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)
