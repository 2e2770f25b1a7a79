"""Leader selection, leader and follower losses: pure functions of tensors.

Source of all formulas: Cheng, Yin et al., arXiv 2310.07885, unless a line says otherwise.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from brainage.errors import ConfigError
from brainage.lfnn.targets import Target, class_softmax

Selection = Literal["per_batch", "per_sample"]
FollowerSpace = Literal["output_mean", "probability_mean", "output", "probability"]
"""Followers approach outputs or probabilities; `_mean` divides by the C outputs, the others sum."""


def leader_count(workers: int, leader_fraction: float) -> int:
    """Count the leaders ⌈δW⌉, at least one; 1e-9 absorbs the rounding of 0.1 * 30 and the like.

    Raises
    ------
    ConfigError
        If δ is not above 0 and at most 1.
    """
    if not 0 < leader_fraction <= 1 + 1e-9:
        problem = f"expected a share above 0 and up to 1, got {leader_fraction!r}."
        raise ConfigError("leader_fraction", problem)
    return max(1, math.ceil(leader_fraction * workers - 1e-9))


def check_word(where: str, word: object, known: object) -> None:
    """Refuse a word that is none of a `Literal`: it would count as another one.

    Raises
    ------
    ConfigError
        With the words that there are.
    """
    if word not in get_args(known):
        raise ConfigError(where, f"{word!r} is unknown.", f"Use {', '.join(get_args(known))}.")


@dataclass(frozen=True)
class Leadership:
    """Who leads.

    Attributes
    ----------
    leader_mask : torch.Tensor of bool (B, W)
        True for leaders.
    best : torch.Tensor of int64 (B,)
        Index of the best leader.
    """

    leader_mask: Tensor
    best: Tensor

    def of_best(self, values: Tensor) -> Tensor:
        """Of values (B, W, ...) those of the best leader: (B, ...)."""
        return values[torch.arange(len(values), device=values.device), self.best]


def select_leaders(
    losses: Tensor, leader_fraction: float, selection: Selection = "per_batch"
) -> Leadership:
    """Choose the ⌈δW⌉ workers with the smallest prediction loss; ties go to the lower index.

    Parameters
    ----------
    losses : torch.Tensor (B, W)
        Prediction loss of each worker on each sample.
    leader_fraction : float
        δ, in (0, 1].
    selection : {"per_batch", "per_sample"}
        Rank workers on the batch mean (one set of leaders a batch), or for each sample.
    """
    check_word("selection", selection, Selection)
    ranking = losses.detach()
    if selection == "per_batch":
        ranking = ranking.mean(dim=0, keepdim=True).expand_as(ranking)
    order = ranking.argsort(dim=1, stable=True)
    leaders = order[:, : leader_count(losses.shape[1], leader_fraction)]
    mask = torch.zeros_like(losses, dtype=torch.bool).scatter(1, leaders, True)
    return Leadership(mask, order[:, 0])


def leader_loss(losses: Tensor, leader_mask: Tensor) -> Tensor:
    """Mean prediction loss over leaders and samples: (B, W), (B, W) to a scalar."""
    return masked_mean(losses, leader_mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, W) where a mask holds; 0 where it holds nowhere."""
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def follower_loss(
    outputs: Tensor,
    leadership: Leadership,
    space: FollowerSpace = "output_mean",
    goal: Tensor | None = None,
) -> Tensor:
    """Mean over followers of (1/C)·‖y_i − sg(y_b)‖², b the best leader: (B, W, C) to a scalar.

    The best leader's output carries no gradient. Without followers (δ = 1) the loss is zero. The
    source says *mean* squared error: over the C outputs too. ``output`` and ``probability`` are C
    times as large, which is what settings written before the mean existed stand for; in
    ``probability`` and ``probability_mean`` y is the softmax of the outputs. A `goal` (B, 1, C)
    stands for the best leader's output where it is given.
    """
    check_word("follower_space", space, FollowerSpace)
    if space.startswith("probability"):
        outputs = class_softmax(outputs)
        goal = None if goal is None else class_softmax(goal)
    best = leadership.of_best(outputs)[:, None, :] if goal is None else goal
    squares = (outputs - best.detach()).square()
    squared_distance = squares.mean(dim=-1) if space.endswith("_mean") else squares.sum(dim=-1)
    return masked_mean(squared_distance, ~leadership.leader_mask)


@dataclass(frozen=True)
class LocalLoss:
    """The loss of one block and its parts, all scalars; `total` carries the gradient."""

    total: Tensor
    leader: Tensor
    follower: Tensor


def local_loss(
    outputs: Tensor,
    target_values: Tensor,
    target: Target,
    *,
    leader_fraction: float,
    leader_weight: float = 1.0,
    follower_weight: float = 1.0,
    selection: Selection = "per_batch",
    follower_space: FollowerSpace = "output_mean",
) -> LocalLoss:
    """Loss of a hidden block: λ1 · L_leader + λ2 · L_follower.

    Parameters
    ----------
    outputs : torch.Tensor (B, W, C)
        Worker outputs.
    target_values : torch.Tensor (B,)
        Class indices or ages in years.
    """
    losses = target.loss(outputs, target_values)
    leadership = select_leaders(losses, leader_fraction, selection)
    leader = leader_loss(losses, leadership.leader_mask)
    follower = follower_loss(outputs, leadership, follower_space)
    return LocalLoss(leader_weight * leader + follower_weight * follower, leader, follower)


def global_loss(outputs: Tensor, target_values: Tensor, target: Target) -> Tensor:
    """Prediction loss of the network's output, mean over the batch: (B, C), (B,) to a scalar."""
    return target.loss(outputs[:, None, :], target_values).mean()
