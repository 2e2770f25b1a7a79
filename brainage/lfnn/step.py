"""What every learning method is made of: settings, result, and the parts that steps share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.leadership import AdaptiveLeadership
from brainage.lfnn.losses import FollowerSpace, Selection, Target, global_loss, local_loss

LeaderFraction = float | Literal["auto"]


@dataclass(frozen=True)
class StepSettings:
    """What a step needs beside network and batch.

    Attributes
    ----------
    target : Target
        Width, loss and read-out of the outputs.
    leader_fraction : float or "auto"
        δ; "auto" follows the block's `AdaptiveLeadership`.
    leader_weight, follower_weight : float
        λ1 and λ2.
    autocast : callable
        Makes the context in which bodies and heads run; losses are always float32 or float64.
    progress : float
        Share of the training that is done, in [0, 1): decides whose turn it is in `greedy`.
    resting : frozenset of int
        Hidden blocks that do not learn in this step; see `brainage.lfnn.schedules`.
    recomputes : bool
        Do not keep activations: compute them once more for the backward pass (Chen et al. 2016,
        arXiv 1604.06174). End to end block by block, local blocks stage by stage.
    """

    target: Target
    leader_fraction: LeaderFraction = 1.0
    leader_weight: float = 1.0
    follower_weight: float = 1.0
    selection: Selection = "per_batch"
    follower_space: FollowerSpace = "output"
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    progress: float = 0.0
    resting: frozenset[int] = frozenset()
    recomputes: bool = False


@dataclass(frozen=True)
class StepResult:
    """Losses of one step, detached.

    Attributes
    ----------
    output : torch.Tensor (B, C)
        Network output before the step; of `greedy`, that of the block being trained.
    losses : tuple of torch.Tensor
        One scalar for each head that was trained.
    """

    output: Tensor
    losses: tuple[Tensor, ...]


@dataclass(frozen=True)
class AidRequest:
    """What a method may know of a hidden block when it builds what it needs there.

    Attributes
    ----------
    feature_shape : tuple of int
        Shape of the block's output without the batch.
    outputs : int
        Classes or age bins C of the network.
    leader_fraction : float or "auto"
        δ of the settings.
    """

    feature_shape: tuple[int, ...]
    outputs: int
    leader_fraction: LeaderFraction


Step = Callable[[BlockStack, Tensor, Tensor, StepSettings], StepResult]
BuildAid = Callable[[AidRequest], nn.Module | None]


HiddenLoss = Callable[[BlockStack, int, Tensor, Tensor, StepSettings, Tensor], Tensor]
"""From stack, block index, worker outputs (B, W, C), target, settings and features to a scalar."""


@dataclass(frozen=True)
class Rule:
    """A learning method: the constant ``RULE`` of a module in `brainage.lfnn.methods`.

    Attributes
    ----------
    step : callable
        One training step: leaves gradients, moves no weight.
    is_local : bool
        Claims that no gradient crosses a block boundary; `tests/test_invariants.py` holds it
        to that on every network.
    has_hidden_heads : bool
        Whether hidden blocks predict.
    trains_in_turn : bool
        Whether blocks train one after another, so that epochs are shared out among them.
    hidden_loss : callable, optional
        Loss of one hidden block, by which a block can be trained alone: what the progressive
        schedule needs.
    build_aid : callable, optional
        Makes what a hidden block needs beside its head, such as a projection or fixed feedback.
    """

    step: Step
    is_local: bool = False
    has_hidden_heads: bool = True
    trains_in_turn: bool = False
    build_aid: BuildAid | None = None
    hidden_loss: HiddenLoss | None = None


def step_block_by_block(
    stack: BlockStack,
    inputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    loss_of_hidden: HiddenLoss,
) -> StepResult:
    """Each block alone: hidden blocks learn from `loss_of_hidden`, the last one from L_g.

    The graph of one block is freed before the next block runs. Resting blocks hand their features
    on without learning.
    """
    losses: list[Tensor] = []
    features = inputs
    output = inputs
    for block_index in range(len(stack)):
        if block_index in settings.resting:
            with torch.no_grad(), settings.autocast():
                features = stack[block_index].body(features)
            continue
        trained = train_block(stack, block_index, features, target_values, settings, loss_of_hidden)
        features, output = trained.features, trained.outputs
        losses.append(trained.loss)
    return StepResult(output.squeeze(1), tuple(losses))


@dataclass(frozen=True)
class TrainedBlock:
    """What training one block on a batch gave; nothing carries a graph.

    Attributes
    ----------
    features : torch.Tensor (B, ...)
        The block's output, which the next block works on.
    outputs : torch.Tensor (B, W, C)
        Worker outputs of its head.
    loss : torch.Tensor
        Scalar.
    """

    features: Tensor
    outputs: Tensor
    loss: Tensor


def train_block(
    stack: BlockStack,
    block_index: int,
    features: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    loss_of_hidden: HiddenLoss,
) -> TrainedBlock:
    """Forward, local loss and backward of one block: this `detach` is what makes a rule local.

    The last block learns from L_g. Its graph is freed before this returns, and no gradient of the
    block's input is computed.
    """
    with settings.autocast():
        features = run_stages(stack[block_index].body, features.detach(), settings.recomputes)
        outputs = stack.read_out(block_index, features)
    if block_index == len(stack) - 1:
        loss = output_loss(outputs.squeeze(1), target_values, settings)
    else:
        loss = loss_of_hidden(stack, block_index, outputs, target_values, settings, features)
    loss.backward()
    return TrainedBlock(features.detach(), outputs.detach(), loss.detach())


def run_stages(body: nn.Sequential, features: Tensor, recomputes: bool) -> Tensor:
    """Forward through a block's stages, each of them recomputed in the backward pass if asked."""
    for stage in body:
        features = checkpointed(stage, features) if recomputes else stage(features)
    return features


def checkpointed(module: nn.Module, features: Tensor) -> Tensor:
    """Forward that keeps only its input; batch statistics are counted once."""
    result: Tensor = checkpoint(
        module,
        features,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_held(module)),
    )
    return result


@contextmanager
def _statistics_held(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def hidden_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor | None = None,
) -> Tensor:
    """λ1 · L_leader + λ2 · L_follower of one hidden block's worker outputs (B, W, C).

    A `HiddenLoss`; the features are not looked at.
    """
    outputs = at_least_float32(outputs)
    fraction = settings.leader_fraction
    if fraction == "auto":
        leadership = stack[block_index].aid
        assert isinstance(leadership, AdaptiveLeadership)
        fraction = leadership.update(settings.target.loss(outputs.detach(), target_values))
    loss = local_loss(
        outputs,
        target_values,
        settings.target,
        leader_fraction=fraction,
        leader_weight=settings.leader_weight,
        follower_weight=settings.follower_weight,
        selection=settings.selection,
        follower_space=settings.follower_space,
    )
    return loss.total


def output_loss(output: Tensor, target_values: Tensor, settings: StepSettings) -> Tensor:
    """L_g of the network's output (B, C)."""
    return global_loss(at_least_float32(output), target_values, settings.target)


def at_least_float32(outputs: Tensor) -> Tensor:
    """Leave autocast's half precision before a loss is taken."""
    return outputs if outputs.dtype.itemsize >= 4 else outputs.float()


def build_leadership(request: AidRequest) -> nn.Module | None:
    """Adaptive leadership where δ is "auto", nothing where it is a number."""
    return AdaptiveLeadership() if request.leader_fraction == "auto" else None
