"""The training loop: a ladder of small steps, the same for every method."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from brainage.config import Config
from brainage.errors import NonFiniteLossError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import global_loss
from brainage.lfnn.rules import RULES, StepResult, StepSettings
from brainage.model import build_target, derive_seed
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizers,
    save_checkpoint,
)
from brainage.training.resources import (
    build_autocast,
    explain_memory_errors,
    peak_memory_mb,
    reset_peak_memory,
)

Batch = dict[str, Tensor]


class Loader(Protocol):
    """Batches {"volume": (B, 1, I, J, K), "age_years": (B,), "index": (B,)}."""

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
    scan_ids : sequence of str
        Names for the loaders' ``index``, for messages only.
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
        scan_ids: Sequence[str],
        shuffle: torch.Generator,
        device: torch.device | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint_path: Path | None = None,
        run_hash: str = "",
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.config, self.training = config, config.training
        self.scan_ids, self.shuffle, self.callbacks = scan_ids, shuffle, callbacks
        self.checkpoint_path, self.run_hash = checkpoint_path, run_hash
        self.target = build_target(config.target)
        self.rule = RULES[config.learning.method]
        self.settings = StepSettings(
            target=self.target,
            leader_fraction=config.learning.leader_fraction,
            leader_weight=config.learning.leader_weight,
            follower_weight=config.learning.follower_weight,
            selection=config.learning.selection,
            follower_space=config.learning.follower_space,
            autocast=build_autocast(self.training.precision, self.device),
        )
        self.optimizers = [self._build_optimizer(block) for block in model.blocks]
        self.averaged = self._build_average()
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
        CheckpointError
            If `resume` finds a checkpoint of another run.
        """
        if resume:
            self._restore()
        reset_peak_memory(self.device)
        epochs = self.training.epochs
        self._call("on_fit_start", epochs, len(train_loader), len(self.history))
        try:
            while len(self.history) < epochs and not self._is_stalled():
                self._run_epoch(len(self.history) + 1, train_loader, validation_loader)
        finally:
            self._call("on_fit_end")
        return self._finish()

    def _run_epoch(self, epoch: int, train_loader: Loader, validation_loader: Loader) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.config.seed, "epoch", epoch))
            self.shuffle.manual_seed(derive_seed(self.config.seed, "order", epoch))
            start = time.perf_counter()
            train_loss = self._train_epoch(epoch, train_loader)
            seconds = time.perf_counter() - start
        val_loss, val_mae, block_maes = self._validate(validation_loader)
        before = self.history[-1].train_seconds_cumulative if self.history else 0.0
        record = EpochRecord(
            epoch,
            train_loss,
            val_loss,
            val_mae,
            block_maes,
            epoch_seconds=seconds,
            train_seconds_cumulative=before + seconds,
            peak_memory_mb=peak_memory_mb(self.device),
        )
        self.history.append(record)
        if self.best_epoch == 0 or val_mae < self.history[self.best_epoch - 1].val_mae_years:
            self.best_epoch = epoch
            self.best = {name: value.clone() for name, value in self.judged.state_dict().items()}
        self._save()
        self._call("on_epoch_end", record)

    def _train_epoch(self, epoch: int, loader: Loader) -> float:
        self.model.train()
        losses = []
        for step, batch in enumerate(loader):
            self._set_learning_rate((epoch - 1) * len(loader) + step, len(loader))
            losses.append(self._train_step(batch))
            self._call("on_step_end", epoch, losses[-1])
        return sum(losses) / len(losses)

    def _train_step(self, batch: Batch) -> float:
        volumes, ages = batch["volume"].to(self.device), batch["age_years"].to(self.device)
        volumes, ages = mix_batch(volumes, ages, self.training.mixup_alpha)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with explain_memory_errors(len(ages), tuple(volumes.shape[2:])):
            result = self.rule(self.model, volumes, ages, self.settings)
        self._check_finite(result, batch)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return float(sum(result.losses))

    def _check_finite(self, result: StepResult, batch: Batch) -> None:
        """Refuse the step before any optimizer has moved; clips the gradients on the way."""
        bound = self.training.max_gradient_norm or math.inf
        norms = [nn.utils.clip_grad_norm_(block.parameters(), bound) for block in self.model.blocks]
        if all(math.isfinite(float(value)) for value in (*result.losses, *norms)):
            return
        scans = ", ".join(self.scan_ids[int(i)] for i in batch["index"])
        losses = ", ".join(f"{float(loss):g}" for loss in result.losses)
        raise NonFiniteLossError(
            "training",
            f"loss or gradient is not finite (losses of the blocks: {losses}) on scans {scans}.",
            "Look at these scans, or lower training.learning_rate. No weight was changed.",
        )

    @torch.no_grad()
    def _validate(self, loader: Loader) -> tuple[float, float, tuple[float, ...]]:
        self.judged.eval()
        losses, errors, count = 0.0, torch.zeros(len(self.model)), 0
        for batch in loader:
            volumes, ages = batch["volume"].to(self.device), batch["age_years"].to(self.device)
            with self.settings.autocast():
                outputs = self.judged.block_outputs(volumes)
            for block_index, worker_outputs in enumerate(outputs):
                errors[block_index] += self._absolute_error(worker_outputs, ages)
            final = outputs[-1]
            assert final is not None
            losses += float(global_loss(final.float().squeeze(1), ages, self.target)) * len(ages)
            count += len(ages)
        maes = tuple(float(error) / count for error in errors)
        return losses / count, maes[-1], maes

    def _absolute_error(self, outputs: Tensor | None, ages: Tensor) -> float:
        if outputs is None:
            return math.nan
        predicted = self.target.predict(outputs.float().mean(dim=1))
        return float((predicted - ages).abs().sum())

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
        averaging = get_ema_multi_avg_fn(decay)
        return AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)

    def _build_optimizer(self, block: nn.Module) -> Optimizer:
        return AdamW(
            block.parameters(),
            lr=self.training.learning_rate,
            weight_decay=self.training.weight_decay,
        )

    def _set_learning_rate(self, step: int, steps_per_epoch: int) -> None:
        """Linear warm-up, then constant or half a cosine to zero: a function of the step alone."""
        warmup = self.training.warmup_epochs * steps_per_epoch
        total = self.training.epochs * steps_per_epoch
        factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if self.training.schedule == "cosine" and step >= warmup:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.training.learning_rate * factor

    def _is_stalled(self) -> bool:
        patience = self.training.patience_epochs
        return patience is not None and len(self.history) - self.best_epoch >= patience

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
        tensors = {f"model.{k}": v.cpu() for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v.cpu() for k, v in self.best.items()}
        tensors |= optimizer_tensors(self.optimizers)
        if self.averaged is not None:
            tensors |= {f"averaged.{k}": v.cpu() for k, v in self.averaged.state_dict().items()}
        state = {
            "history": [asdict(record) for record in self.history],
            "best_epoch": self.best_epoch,
        }
        save_checkpoint(Checkpoint(tensors, state, self.run_hash), self.checkpoint_path)

    def _restore(self) -> None:
        if self.checkpoint_path is None or not self.checkpoint_path.exists():
            return
        checkpoint = load_checkpoint(self.checkpoint_path, self.run_hash)
        self.model.load_state_dict(checkpoint.group("model"))
        if self.averaged is not None:
            self.averaged.load_state_dict(checkpoint.group("averaged"))
        self.best = {name: t.to(self.device) for name, t in checkpoint.group("best").items()}
        self.best_epoch = int(checkpoint.state["best_epoch"])
        self.history = [
            EpochRecord(**{**row, "block_val_mae_years": tuple(row["block_val_mae_years"])})
            for row in checkpoint.state["history"]
        ]
        restore_optimizers(self.optimizers, checkpoint)

    def _call(self, hook: str, *arguments: object) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)


def mix_batch(volumes: Tensor, ages: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix every scan and its age with another of the batch (mixup; Zhang et al. 2018).

    One share λ ~ Beta(α, α) a batch, λ ≥ ½, from torch's global generator, which is seeded anew
    for every epoch; α = 0 changes nothing and draws nothing.

    Parameters
    ----------
    volumes : torch.Tensor (B, 1, I, J, K)
    ages : torch.Tensor (B,)
        Years.
    """
    if alpha == 0:
        return volumes, ages
    drawn = torch.distributions.Beta(alpha, alpha).sample()
    share = float(torch.maximum(drawn, 1 - drawn))
    other = torch.randperm(len(ages)).to(ages.device)
    mixed_ages = share * ages + (1 - share) * ages[other]
    return share * volumes + (1 - share) * volumes[other], mixed_ages
