"""One training step of each method, one signature. A step leaves gradients; it moves no weight.

Gradients of a block-local method are computed block by block: the activations of one block are
freed before the next block runs. Weights move only when the whole step is known to be finite.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import (
    FollowerSpace,
    LocalLoss,
    Selection,
    Target,
    global_loss,
    local_loss,
)


@dataclass(frozen=True)
class StepSettings:
    """What a step needs beside network and batch.

    Attributes
    ----------
    target : Target
        Width, loss and read-out of the outputs.
    leader_fraction, leader_weight, follower_weight : float
        δ, λ1 and λ2.
    autocast : callable
        Makes the context in which bodies and heads run; losses are always float32 or float64.
    """

    target: Target
    leader_fraction: float = 1.0
    leader_weight: float = 1.0
    follower_weight: float = 1.0
    selection: Selection = "per_batch"
    follower_space: FollowerSpace = "output"
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class StepResult:
    """Losses of one step, detached.

    Attributes
    ----------
    output : torch.Tensor (B, C)
        Network output before the step.
    losses : tuple of torch.Tensor
        One scalar a block; with plain BP only that of the last block.
    """

    output: Tensor
    losses: tuple[Tensor, ...]


Rule = Callable[[BlockStack, Tensor, Tensor, StepSettings], StepResult]


def bp_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """End-to-end backpropagation of the global loss L_g."""
    with settings.autocast():
        output = stack(inputs)
    loss = global_loss(_full(output), target_values, settings.target)
    loss.backward()
    return StepResult(output.detach(), (loss.detach(),))


def lfnn_l_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """LFNN-ℓ: hidden blocks learn from L_leader + λ·L_follower, the last from L_g, each alone.

    The features are detached between blocks: this line is what makes the rule local.
    """
    losses: list[Tensor] = []
    features = inputs
    output = inputs
    for block_index in range(len(stack)):
        features = features.detach()
        with settings.autocast():
            features = stack[block_index].body(features)
            outputs = stack.read_out(block_index, features)
        if block_index == len(stack) - 1:
            output = outputs.squeeze(1)
            loss = global_loss(_full(output), target_values, settings.target)
        else:
            loss = _hidden_loss(outputs, target_values, settings).total
        loss.backward()
        losses.append(loss.detach())
    return StepResult(output.detach(), tuple(losses))


def lfnn_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """LFNN: L = L_g + Σ over hidden blocks of (λ1·L_leader + λ2·L_follower); gradients flow."""
    with settings.autocast():
        outputs = [item for item in stack.block_outputs(inputs) if item is not None]
    output = outputs[-1].squeeze(1)
    losses = [_hidden_loss(hidden, target_values, settings).total for hidden in outputs[:-1]]
    losses.append(global_loss(_full(output), target_values, settings.target))
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    total.backward()
    return StepResult(output.detach(), tuple(loss.detach() for loss in losses))


def deep_supervision_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """The heads of LFNN-ℓ, every worker a leader (δ = 1), gradients flow (Lee et al. 2015)."""
    everyone_leads = replace(settings, leader_fraction=1.0)
    return lfnn_step(stack, inputs, target_values, everyone_leads)


RULES: dict[str, Rule] = {
    "bp": bp_step,
    "lfnn": lfnn_step,
    "lfnn_l": lfnn_l_step,
    "deep_supervision": deep_supervision_step,
}

BLOCK_LOCAL = frozenset({"lfnn_l"})
WITHOUT_HIDDEN_HEADS = frozenset({"bp"})


def _hidden_loss(outputs: Tensor, target_values: Tensor, settings: StepSettings) -> LocalLoss:
    return local_loss(
        _full(outputs),
        target_values,
        settings.target,
        leader_fraction=settings.leader_fraction,
        leader_weight=settings.leader_weight,
        follower_weight=settings.follower_weight,
        selection=settings.selection,
        follower_space=settings.follower_space,
    )


def _full(outputs: Tensor) -> Tensor:
    return outputs if outputs.dtype.itemsize >= 4 else outputs.float()
