"""What every learning method is made of: settings, result, and the parts that steps share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.leadership import AdaptiveLeadership
from brainage.lfnn.losses import FollowerSpace, Selection, global_loss, local_loss
from brainage.lfnn.targets import Target, at_least_float32
from brainage.lfnn.workers import Head

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
    randomness : callable
        From the index of a block to the context in which it draws (dropout). A seed of its own for
        each block and step makes the draws independent of which process runs the block, and when.
    recomputes : bool
        Do not keep activations: compute them once more for the backward pass (Chen et al. 2016,
        arXiv 1604.06174). `bp` block by block, other methods stage by stage.
    block_input : torch.Tensor (B, ...), optional
        While a `HiddenLoss` is taken: the input of its block, without a gradient.
    """

    target: Target
    leader_fraction: LeaderFraction = 1.0
    leader_weight: float = 1.0
    follower_weight: float = 1.0
    selection: Selection = "per_batch"
    follower_space: FollowerSpace = "output_mean"
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    progress: float = 0.0
    resting: frozenset[int] = frozenset()
    randomness: Callable[[int | str], AbstractContextManager[object]] = nullcontext
    recomputes: bool = False
    block_input: Tensor | None = None


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
class AuxiliaryRequest:
    """What a method may know of a hidden block when it builds the auxiliary module there.

    Attributes
    ----------
    feature_shape : tuple of int
        Shape of the block's output without the batch.
    outputs : int
        Classes or age bins C of the network.
    leader_fraction : float or "auto"
        δ of the settings.
    input_shape : tuple of int
        Shape of the block's input without the batch.
    workers : int
        Workers W of the block's head.
    """

    feature_shape: tuple[int, ...]
    outputs: int
    leader_fraction: LeaderFraction
    input_shape: tuple[int, ...] = ()
    workers: int = 1


Step = Callable[[BlockStack, Tensor, Tensor, StepSettings], StepResult]
BuildAuxiliary = Callable[[AuxiliaryRequest], nn.Module | None]
HandOn = Callable[[Tensor], None]
Family = Literal["isolated", "crossing", "delayed", "deep supervision", "end to end", "feedback"]
"""Classes of methods that tables keep apart: what of the rest of the network a block learns from.

``isolated`` nothing but its own loss; ``crossing`` weights or features of other blocks; ``delayed``
true gradients of an earlier step; ``deep supervision`` the gradients of all later losses too;
``end to end`` the output's loss; ``feedback`` the output's error, through random weights.
"""

HiddenLoss = Callable[[BlockStack, int, Tensor, Tensor, StepSettings, Tensor], Tensor]
"""From stack, block index, worker outputs (B, W, C), target, settings and features to a scalar."""


@dataclass(frozen=True)
class Rule:
    """A learning method: the constant ``RULE`` of a module.

    Attributes
    ----------
    step : callable
        One training step: leaves gradients, moves no weight.
    is_local : bool
        Claims that no gradient crosses a block boundary: see `brainage.lfnn.assert_isolated`.
    has_hidden_heads : bool
        Whether hidden blocks predict.
    trains_in_turn : bool
        Whether blocks train one after another, so that epochs are shared out among them.
    hidden_loss : callable, optional
        Loss of one hidden block, by which a block can be trained alone: what the progressive
        and the pipelined schedule need.
    build_auxiliary : callable, optional
        Makes what a hidden block needs beside its head, such as a projection or fixed feedback.
    family : str
        Class in the tables; "" is isolated where `is_local`, else crossing.
    own_head : Head, optional
        What reads hidden blocks, instead of the settings' head.
    cuts_every_stage : bool
        Each stage is a block, whatever the settings say.
    """

    step: Step
    is_local: bool = False
    has_hidden_heads: bool = True
    trains_in_turn: bool = False
    build_auxiliary: BuildAuxiliary | None = None
    hidden_loss: HiddenLoss | None = None
    family: Family | Literal[""] = ""
    own_head: Head | None = None
    cuts_every_stage: bool = False

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", "isolated" if self.is_local else "crossing")


def local_rule(
    hidden_loss: HiddenLoss, build_auxiliary: BuildAuxiliary | None = None, **more: Any
) -> Rule:
    """Make a method of a loss: hidden blocks learn from it, the last block from L_g, each alone.

    Parameters
    ----------
    hidden_loss : callable
        From the stack, the block's index, its worker outputs (B, W, C), the target (B,), the
        settings and the block's features to a scalar that carries a gradient.
    build_auxiliary : callable, optional
        Makes a module for each hidden block, which `hidden_loss` finds at
        ``stack[block_index].auxiliary``; it learns with the block.
    more
        Other attributes of the `Rule`.

    Examples
    --------
    >>> import torch
    >>> from brainage import lfnn
    >>> def loss(stack, block_index, outputs, target_values, settings, features):
    ...     return settings.target.loss(outputs, target_values).mean() + features.square().mean()
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    >>> net = lfnn.localize(
    ...     network, blocks=2, target=lfnn.Classes(3), example=x, method=lfnn.local_rule(loss)
    ... )
    >>> lfnn.assert_isolated(net, x, y)
    """
    return Rule(
        partial(_step_all, hidden_loss),
        is_local=True,
        build_auxiliary=build_auxiliary,
        hidden_loss=hidden_loss,
        **more,
    )


def _step_all(
    hidden_loss: HiddenLoss,
    stack: BlockStack,
    inputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
) -> StepResult:
    blocks = range(len(stack))
    return step_blocks(stack, blocks, inputs, target_values, settings, hidden_loss)


def step_blocks(
    stack: BlockStack,
    blocks: range,
    features: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    loss_of_hidden: HiddenLoss,
    hand_on: HandOn | None = None,
) -> StepResult:
    """Train some neighbouring blocks of a stack, one after another, each alone.

    The graph of one block is freed before the next block runs. Resting blocks hand their features
    on without learning.

    Parameters
    ----------
    blocks : range
        Which blocks; `features` are the input of the first of them.
    hand_on : callable, optional
        Gets the features of the last of them, detached, before its loss and backward.
    """
    losses: list[Tensor] = []
    output = features
    for block_index in blocks:
        give = hand_on if block_index == blocks[-1] else None
        if block_index in settings.resting:
            with torch.no_grad(), settings.autocast(), settings.randomness(block_index):
                features = stack[block_index].body(features)
            if give is not None:
                give(features)
            continue
        trained = train_block(
            stack, block_index, features, target_values, settings, loss_of_hidden, give
        )
        features, output = trained.features, trained.outputs
        losses.append(trained.loss)
    is_last = blocks[-1] == len(stack) - 1
    return StepResult(output.squeeze(1) if is_last else output, tuple(losses))


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
    hand_on: HandOn | None = None,
) -> TrainedBlock:
    """Train one block on detached features: this `detach` is what makes a rule local.

    The last block learns from L_g. Its graph is freed before this returns, and no gradient of the
    block's input is computed.
    """
    block_input = features.detach()
    with settings.autocast(), settings.randomness(block_index):
        features = run_stages(stack[block_index].body, block_input, settings.recomputes)
        if hand_on is not None:
            hand_on(features.detach())
        outputs = stack.read_out(block_index, features)
    if block_index == len(stack) - 1:
        loss = output_loss(outputs.squeeze(1), target_values, settings)
    else:
        settings = replace(settings, block_input=block_input)
        loss = loss_of_hidden(stack, block_index, outputs, target_values, settings, features)
    backpropagate(loss, f"block {block_index}")
    return TrainedBlock(features.detach(), outputs.detach(), loss.detach())


def backpropagate(loss: Tensor, where: str) -> None:
    """Leave the gradients of a loss in the weights.

    Raises
    ------
    ConfigError
        If no weight learns from it, as where all are frozen.
    """
    if not loss.requires_grad:
        problem = "nothing can learn: its loss reaches no weight that takes a gradient."
        remedy = "Unfreeze a weight (requires_grad_(True)), or cut so that the block has one."
        raise ConfigError(where, problem, remedy)
    loss.backward()


def run_stages(body: nn.Sequential, features: Tensor, recomputes: bool) -> Tensor:
    """Run a block's stages; with `recomputes` the backward pass runs each of them once more."""
    for stage in body:
        features = checkpointed(stage, features) if recomputes else stage(features)
    return features


def checkpointed(module: nn.Module, features: Tensor) -> Tensor:
    """Run a module and keep only its input; its state (batch statistics) counts one run."""
    start: list[Tensor] = []

    @contextmanager
    def noted() -> Iterator[None]:
        start[:] = [buffer.clone() for buffer in module.buffers()]
        yield

    @contextmanager
    def repeated() -> Iterator[None]:
        end = [buffer.clone() for buffer in module.buffers()]
        _set_buffers(module, start)
        try:
            yield
        finally:
            _set_buffers(module, end)

    result: Tensor = checkpoint(
        module, features, use_reentrant=False, context_fn=lambda: (noted(), repeated())
    )
    return result


def _set_buffers(module: nn.Module, values: list[Tensor]) -> None:
    for buffer, value in zip(module.buffers(), values, strict=True):
        buffer.data.copy_(value)  # .data: the graph may hold the buffer


def hidden_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor | None = None,
) -> Tensor:
    """Compute λ1 · L_leader + λ2 · L_follower of a hidden block's worker outputs (B, W, C).

    A `HiddenLoss`; the features are not looked at.
    """
    outputs = at_least_float32(outputs)
    fraction = settings.leader_fraction
    if fraction == "auto":
        leadership = stack[block_index].auxiliary
        if not isinstance(leadership, AdaptiveLeadership):
            raise ConfigError("leader_fraction", "auto is not what the network was built with.")
        fraction = leadership.update(settings.target.loss(outputs.detach(), target_values))
    return local_loss(
        outputs,
        target_values,
        settings.target,
        leader_fraction=fraction,
        leader_weight=settings.leader_weight,
        follower_weight=settings.follower_weight,
        selection=settings.selection,
        follower_space=settings.follower_space,
    ).total


def all_lead_loss(outputs: Tensor, target_values: Tensor, settings: StepSettings) -> Tensor:
    """Compute the mean prediction loss of all workers (B, W, C): L_leader at δ = 1."""
    outputs = at_least_float32(outputs)
    return local_loss(outputs, target_values, settings.target, leader_fraction=1.0).leader


def output_loss(output: Tensor, target_values: Tensor, settings: StepSettings) -> Tensor:
    """Compute L_g of the network's output (B, C)."""
    return global_loss(at_least_float32(output), target_values, settings.target)


def build_leadership(request: AuxiliaryRequest) -> nn.Module | None:
    """Build adaptive leadership where δ is "auto", nothing where it is a number."""
    return AdaptiveLeadership() if request.leader_fraction == "auto" else None
