"""State of a training: network, optimizers, averaged weights, history, and the best epoch."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from brainage.config import Config
from brainage.errors import CheckpointError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.rules import METHOD_RULES, StepSettings
from brainage.loading.mixing import mix_batch
from brainage.model.build import build_target
from brainage.training.callbacks import EpochRecord
from brainage.training.checkpoint import (
    START_ANEW,
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizers,
    save_checkpoint,
)
from brainage.training.resources import (
    build_autocast,
    choose_memory_format,
    keep_freed_memory,
    release_freed_memory,
)

Batch = dict[str, Tensor]


class Loader(Protocol):
    """Batches {"inputs": (B, C, ...), "target": (B,), "index": (B,)}."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class FirstBatches:
    """The first batches of a loader, at most `count`."""

    loader: Loader
    count: int

    def __iter__(self) -> Iterator[Batch]:
        return islice(iter(self.loader), self.count)

    def __len__(self) -> int:
        return min(len(self.loader), self.count)


@dataclass(frozen=True)
class FitResult:
    """Result of a training; the model holds the kept weights.

    Attributes
    ----------
    history : tuple of EpochRecord
        One record an epoch, resumed epochs included.
    kept_epoch : int
        Epoch whose weights the model holds.
    """

    history: tuple[EpochRecord, ...]
    kept_epoch: int


class TrainingState:
    """State that the training loop and its schedule share; one optimizer a block.

    Parameters
    ----------
    model : BlockStack
        Network with the heads that the method needs; moved to the device.
    config : Config
        Resolved settings.
    names : sequence of str
        Names of the samples for the loaders' ``index``, for messages only.
    shuffle : torch.Generator
        Generator of the training loader's order; seeded anew for each epoch.
    checkpoint_path : pathlib.Path, optional
        File that the state is kept in after each epoch.
    run_hash : str
        Identity of settings and data; a checkpoint with another one is refused.

    Attributes
    ----------
    settings : StepSettings
        Settings of the next step; the loop and the schedule replace them.
    learners : range
        Blocks that a step may change.
    averaged : AveragedModel or None
        Moving average of the weights, where `training.ema_decay` asks for one.
    history : list of EpochRecord
    best : dict of str to torch.Tensor
        Weights of the epoch `best_epoch`.
    """

    def __init__(
        self,
        model: BlockStack,
        config: Config,
        *,
        names: Sequence[str],
        shuffle: torch.Generator,
        device: torch.device | None = None,
        checkpoint_path: Path | None = None,
        run_hash: str = "",
    ) -> None:
        self.device = device or torch.device("cpu")
        releases = config.training.release_memory
        (release_freed_memory if releases else keep_freed_memory)(self.device)
        self._format = choose_memory_format(config.training.memory_format, config.input_shape)
        # The stub of `to` knows no memory format.
        self.model = model.to(self.device, memory_format=self._format)  # type: ignore[call-overload]
        self.config, self.training, self.learning = config, config.training, config.learning
        self.names, self.shuffle = names, shuffle
        self.checkpoint_path, self.run_hash = checkpoint_path, run_hash
        self.rule = METHOD_RULES[config.learning.method]
        self.settings = build_step_settings(config, self.device)
        self.target = self.settings.target
        self.optimizers = [build_optimizer(block, config) for block in model.blocks]
        self.learners = range(len(model))
        self.averaged = _build_average(self.model, self.training.ema_decay)
        self.history: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0

    @property
    def judged(self) -> BlockStack:
        """Network that is validated and kept: the averaged weights where there are any."""
        if self.averaged is None:
            return self.model
        module = self.averaged.module
        assert isinstance(module, BlockStack)
        return module

    def arrange(self, inputs: Tensor) -> Tensor:
        """Move inputs to the device, in the network's order of values in memory."""
        # Tokens and vectors have one order.
        order = torch.preserve_format if inputs.ndim < 4 else self._format
        return inputs.to(self.device, memory_format=order)

    def load(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a batch on the device, mixed where the settings say so."""
        inputs, target = self.arrange(batch["inputs"]), batch["target"].to(self.device)
        with self.settings.randomness("mixup"):
            return mix_batch(inputs, target, self.training.mixup_alpha)

    def score(self, outputs: Tensor | None, target: Tensor) -> float:
        """Sum over a batch of the scores of worker outputs (B, W, C); NaN where there are none."""
        if outputs is None:
            return math.nan
        return float(self.target.score(outputs.float().mean(dim=1), target).sum())

    def add(self, record: EpochRecord, is_best: bool) -> None:
        """Add an epoch to the history, and keep its weights if it is the best."""
        self.history.append(record)
        if is_best:
            self.best_epoch = record.epoch
            self.best = {name: value.clone() for name, value in self.judged.state_dict().items()}

    def finish(self) -> FitResult:
        """Load the weights that `training.keep` asks for into the model."""
        if self.training.keep == "best":
            self.model.load_state_dict(self.best)
            return FitResult(tuple(self.history), self.best_epoch)
        if self.averaged is not None:
            self.model.load_state_dict(self.judged.state_dict())
        return FitResult(tuple(self.history), len(self.history))

    def tensors(self) -> dict[str, Tensor]:
        """All that training needs to go on, and the best weights, by the checkpoint's names."""
        tensors = {f"model.{k}": v.cpu() for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v.cpu() for k, v in self.best.items()}
        tensors |= optimizer_tensors(self.optimizers)
        if self.averaged is not None:
            tensors |= {f"averaged.{k}": v.cpu() for k, v in self.averaged.state_dict().items()}
        return tensors

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Write the checkpoint, if the run keeps one."""
        if self.checkpoint_path is None:
            return
        facts = {"history": [asdict(r) for r in self.history], "best_epoch": self.best_epoch}
        save_checkpoint(Checkpoint(tensors, facts, self.run_hash), self.checkpoint_path)

    def restore(self, path: Path, is_own: Callable[[str], bool] = lambda name: True) -> None:
        """Read a checkpoint back; `is_own` tells by name which of its tensors are this process's.

        Raises
        ------
        CheckpointError
            If it is damaged, or of another run.
        """
        checkpoint = load_checkpoint(path, self.run_hash)
        own = {name: tensor for name, tensor in checkpoint.tensors.items() if is_own(name)}
        try:
            self._load(Checkpoint(own, checkpoint.state, checkpoint.run_hash))
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(str(path), "does not hold this run.", START_ANEW) from error

    def _load(self, checkpoint: Checkpoint) -> None:
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


def build_step_settings(config: Config, device: torch.device) -> StepSettings:
    """Build the settings of a step from configuration and device."""
    learning = config.learning
    return StepSettings(
        target=build_target(config.target),
        leader_fraction=learning.leader_fraction,
        leader_weight=learning.leader_weight,
        follower_weight=learning.follower_weight,
        selection=learning.selection,
        follower_space=learning.follower_space,
        autocast=build_autocast(config.training.precision, device),
        recomputes=config.training.recompute,
    )


@torch.no_grad()
def weights_size(state: TrainingState) -> float:
    """Sum of the weights' sizes: not finite where one of them is not."""
    return sum(float(weight.abs().sum()) for weight in state.model.parameters())


def build_optimizer(block: nn.Module, config: Config) -> Optimizer:
    """Optimizer of one block's parameters."""
    rate, decay = config.training.learning_rate, config.training.weight_decay
    # A block may have no weights; an optimizer wants at least one parameter.
    parameters = list(block.parameters()) or [nn.Parameter(torch.zeros(()))]
    optimizer = config.training.optimizer
    if optimizer != "adamw":
        nesterov = optimizer == "sgd"
        return SGD(
            parameters, rate, momentum=0.9, weight_decay=decay, nesterov=nesterov, fused=True
        )
    return AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def _build_average(model: BlockStack, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
