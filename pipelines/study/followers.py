"""Other ways to follow than the paper's, as methods of their own: what the study `followers` tries.

Each is LFNN-ℓ with another follower loss, named in settings as
``pipelines.study.followers:DISTIL``. L_leader, λ1, λ2 and δ are those of the settings. No gradient
crosses a block.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import follower_loss, leader_loss, masked_mean, select_leaders
from brainage.lfnn.rules import Rule, StepSettings
from brainage.lfnn.step import AuxiliaryRequest, BuildAuxiliary, local_rule
from brainage.lfnn.targets import at_least_float32

LABEL_SHARE, TEMPERATURE = 0.5, 2.0
"""Of distillation: the weight of the label is 1 − a, a = 0.5; T."""


class Moment:
    """What a follower loss may look at: a hidden block in one step.

    Attributes
    ----------
    outputs : torch.Tensor (B, W, C)
        With their graph.
    losses : torch.Tensor (B, W)
        Prediction losses of the workers.
    leadership : Leadership
        Who leads, by the settings.
    """

    def __init__(
        self,
        stack: BlockStack,
        block_index: int,
        outputs: Tensor,
        target_values: Tensor,
        settings: StepSettings,
        features: Tensor,
    ) -> None:
        self.stack, self.block_index, self.features = stack, block_index, features
        self.outputs, self.target_values = at_least_float32(outputs), target_values
        self.settings = settings
        self.losses = settings.target.loss(self.outputs, target_values)
        assert settings.leader_fraction != "auto"
        self.fraction = settings.leader_fraction
        self.leadership = select_leaders(self.losses, self.fraction, settings.selection)

    def mean_over_followers(self, values: Tensor) -> Tensor:
        """Mean of (B, W) over followers and samples."""
        return masked_mean(values, ~self.leadership.leader_mask)


def learn(loss: Callable[[Moment], Tensor], build_auxiliary: BuildAuxiliary | None = None) -> Rule:
    """Make a method whose hidden blocks learn from a loss of the moment."""

    def hidden_loss(*seen: Any) -> Tensor:
        return loss(Moment(*seen))

    return local_rule(hidden_loss, build_auxiliary)


def follow(loss: Callable[[Moment], Tensor]) -> Rule:
    """Make a method: λ1·L_leader + λ2·loss in hidden blocks."""

    def total(moment: Moment) -> Tensor:
        leader = leader_loss(moment.losses, moment.leadership.leader_mask)
        settings = moment.settings
        return settings.leader_weight * leader + settings.follower_weight * loss(moment)

    return learn(total)


def distil(moment: Moment) -> Tensor:
    """(1 − a)·loss(y_i, t) + a·T²·KL(y_b/T ‖ y_i/T) (Hinton, Vinyals & Dean 2015)."""
    goal = functional.log_softmax(
        moment.leadership.of_best(moment.outputs).detach() / TEMPERATURE, dim=-1
    )
    own = functional.log_softmax(moment.outputs / TEMPERATURE, dim=-1)
    divergence = (goal.exp()[:, None, :] * (goal[:, None, :] - own)).sum(dim=-1)
    both = (1 - LABEL_SHARE) * moment.losses + LABEL_SHARE * TEMPERATURE**2 * divergence
    return moment.mean_over_followers(both)


def move_alike(moment: Moment) -> Tensor:
    """⟨y_i, ∂loss_b/∂y_b⟩: a follower makes the best leader's move from where it stands.

    Velocities are aligned, not positions, as in a flock (Vicsek et al. 1995).
    """
    outputs = moment.outputs.detach().requires_grad_()
    losses = moment.settings.target.loss(outputs, moment.target_values)
    with torch.enable_grad():
        (moves,) = torch.autograd.grad(losses.sum(), outputs)
    move = moment.leadership.of_best(moves)[:, None, :]
    return moment.mean_over_followers((moment.outputs * move).sum(dim=-1))


def follow_in_the_head(moment: Moment) -> Tensor:
    """Take the paper's follower loss, stopped at the head: features do not follow."""
    outputs = moment.stack.read_out(moment.block_index, moment.features.detach())
    space = moment.settings.follower_space
    return follower_loss(at_least_float32(outputs), moment.leadership, space)


def follow_from_above(moment: Moment) -> Tensor:
    """Approach the network's present output on the sample, which carries no gradient."""
    stack, features = moment.stack, moment.features.detach()
    was_training = stack.training
    stack.eval()
    with torch.no_grad():
        for block_index in range(moment.block_index + 1, len(stack)):
            features = stack[block_index].body(features)
        goal = at_least_float32(stack.read_out(len(stack) - 1, features))
    stack.train(was_training)
    space = moment.settings.follower_space
    return follower_loss(moment.outputs, moment.leadership, space, goal)


def gated_loss(moment: Moment) -> Tensor:
    """Compute the loss of `lfnn_l` where a gate says for each sample who leads, without its label.

    The gate is a linear layer on the block's features, pooled and without gradient to them. It
    learns by cross-entropy which worker has the smallest loss.
    """
    settings, features = moment.settings, moment.features
    gate = moment.stack[moment.block_index].auxiliary
    assert gate is not None
    pooled = at_least_float32(features.detach()).reshape(*features.shape[:2], -1).mean(dim=2)
    scores = gate(pooled)
    leadership = select_leaders(-scores, moment.fraction, "per_sample")
    leader = leader_loss(moment.losses, leadership.leader_mask)
    follower = follower_loss(moment.outputs, leadership, settings.follower_space)
    total = settings.leader_weight * leader + settings.follower_weight * follower
    return total + functional.cross_entropy(scores, moment.losses.detach().argmin(dim=1))


def build_gate(request: AuxiliaryRequest) -> nn.Module:
    """Build the gate of a block of vectors or maps: channels to workers."""
    return nn.Linear(request.feature_shape[0], request.workers)


DISTIL = follow(distil)
MOVES = follow(move_alike)
HEAD = follow(follow_in_the_head)
ABOVE = follow(follow_from_above)
GATE = learn(gated_loss, build_gate)
