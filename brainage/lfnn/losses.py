"""Prediction losses, leader selection, leader and follower losses: pure functions of tensors.

Source of all formulas: Cheng, Yin et al., arXiv 2310.07885, unless a line says otherwise.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from brainage.errors import ShapeError

Selection = Literal["per_batch", "per_sample"]
FollowerSpace = Literal["output", "probability"]

_SHORT_AXIS = 16


class Target(Protocol):
    """What a network is asked to predict: the width of its outputs, a loss and a read-out."""

    @property
    def outputs(self) -> int:
        """Number of outputs C of one worker."""

    @property
    def metric(self) -> str:
        """Name of the score, with its unit."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is a better one."""

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Score of each sample, for its mean: (B, C) and (B,) to (B,)."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each worker on each sample: (B, W, C) and (B,) to (B, W)."""

    def predict(self, outputs: Tensor) -> Tensor:
        """Prediction in the target's unit: (..., C) to (...)."""


@dataclass(frozen=True)
class ClassTarget:
    """One of C classes, with cross-entropy; predicts the class index."""

    outputs: int
    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each worker: (B, W, C) and (B,) to (B, W)."""
        check_pair(outputs, target)
        log_probability = class_log_softmax(outputs)
        index = target.long()[:, None, None].expand(-1, outputs.shape[1], 1)
        return -log_probability.gather(-1, index).squeeze(-1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Index of the likeliest class: (..., C) to (...)."""
        return outputs.argmax(dim=-1)

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """1 where the class is right, else 0: (B, C) and (B,) to (B,)."""
        return (self.predict(outputs) == target).to(outputs.dtype)


@dataclass(frozen=True)
class AgeBins:
    """Age as a distribution over evenly spaced bins (SFCN; Peng et al. 2021).

    Attributes
    ----------
    low_years, high_years : float
        Centres of the first and the last bin.
    outputs : int
        Number of bins C.
    sigma_bins : float
        Standard deviation of the Gaussian soft label, in bins.
    """

    low_years: float
    high_years: float
    outputs: int
    sigma_bins: float = 1.0
    metric: ClassVar[str] = "mae_years"
    higher_is_better: ClassVar[bool] = False

    def centres(self, like: Tensor) -> Tensor:
        """Bin centres in years (C,), in the type and on the device of `like`."""
        return torch.linspace(
            self.low_years, self.high_years, self.outputs, dtype=like.dtype, device=like.device
        )

    def soft_label(self, age_years: Tensor) -> Tensor:
        """Gaussian label over the bins, normalised to sum 1: (B,) to (B, C)."""
        width = (self.high_years - self.low_years) / (self.outputs - 1)
        distance = (self.centres(age_years)[None, :] - age_years[:, None]) / (
            width * self.sigma_bins
        )
        return functional.softmax(-0.5 * distance**2, dim=-1)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Kullback-Leibler divergence from the soft label: (B, W, C) and (B,) to (B, W)."""
        check_pair(outputs, target)
        label = self.soft_label(target.to(outputs.dtype))[:, None, :]
        log_probability = class_log_softmax(outputs)
        return (torch.xlogy(label, label) - label * log_probability).sum(dim=-1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Expected age in years: (..., C) to (...)."""
        return (functional.softmax(outputs, dim=-1) * self.centres(outputs)).sum(dim=-1)

    def median(self, outputs: Tensor) -> Tensor:
        """Median of the predicted distribution in years, within its bin by a straight line.

        Shape (..., C) to (...). Where the distribution is skewed, as for a brain that looks young
        but may be middle-aged, the median has the smaller absolute error.
        """
        probability, centres = functional.softmax(outputs, dim=-1), self.centres(outputs)
        width = (self.high_years - self.low_years) / (self.outputs - 1)
        below = probability.cumsum(dim=-1)
        index = (below < 0.5).sum(dim=-1, keepdim=True).clamp(max=self.outputs - 1)
        inside = probability.gather(-1, index)
        share = (0.5 - below.gather(-1, index) + inside) / inside
        return (centres[index] + (share - 0.5) * width).squeeze(-1)

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Absolute error in years: (B, C) and (B,) to (B,)."""
        return (self.predict(outputs) - target).abs()

    def spread(self, outputs: Tensor) -> Tensor:
        """Standard deviation of the predicted distribution in years: (..., C) to (...)."""
        probability, centres = functional.softmax(outputs, dim=-1), self.centres(outputs)
        deviation = centres - (probability * centres).sum(dim=-1, keepdim=True)
        return (probability * deviation.square()).sum(dim=-1).sqrt()


@dataclass(frozen=True)
class ScalarAge:
    """Age as one number, standardised to [-1, 1] over the training range, with L1 loss."""

    low_years: float
    high_years: float
    outputs: int = 1
    metric: ClassVar[str] = "mae_years"
    higher_is_better: ClassVar[bool] = False

    @property
    def _centre(self) -> float:
        return 0.5 * (self.low_years + self.high_years)

    @property
    def _half_range(self) -> float:
        return 0.5 * (self.high_years - self.low_years)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Absolute error in half ranges: (B, W, 1) and (B,) to (B, W)."""
        check_pair(outputs, target)
        standardised = (target.to(outputs.dtype) - self._centre) / self._half_range
        return (outputs.squeeze(-1) - standardised[:, None]).abs()

    def predict(self, outputs: Tensor) -> Tensor:
        """Age in years: (..., 1) to (...)."""
        return outputs.squeeze(-1) * self._half_range + self._centre

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Absolute error in years: (B, 1) and (B,) to (B,)."""
        return (self.predict(outputs) - target).abs()


def class_log_softmax(outputs: Tensor) -> Tensor:
    """Log-softmax over classes: (B, W, C) to (B, W, C).

    A few classes go to the middle for it: over a short last axis torch takes ten times as long on
    a CPU. Age bins stay where they are, since another order of sums would move their last digits.
    """
    if outputs.shape[-1] > _SHORT_AXIS:
        return functional.log_softmax(outputs, dim=-1)
    return functional.log_softmax(outputs.transpose(1, 2), dim=1).transpose(1, 2)


def class_softmax(outputs: Tensor) -> Tensor:
    """Softmax over classes: (B, W, C) to (B, W, C), as `class_log_softmax`."""
    if outputs.shape[-1] > _SHORT_AXIS:
        return functional.softmax(outputs, dim=-1)
    return functional.softmax(outputs.transpose(1, 2), dim=1).transpose(1, 2)


def check_pair(outputs: Tensor, target: Tensor) -> None:
    """Refuse outputs and targets whose shapes would broadcast by accident.

    Raises
    ------
    ShapeError
        If outputs are not (B, W, C) or the target is not (B,).
    """
    if outputs.ndim != 3:
        raise ShapeError("outputs", f"expected shape (B, W, C), got {tuple(outputs.shape)}.")
    if target.shape != outputs.shape[:1]:
        raise ShapeError(
            "target",
            f"expected shape ({outputs.shape[0]},), got {tuple(target.shape)}.",
            "Squeeze the target: (B, 1) against (B,) would broadcast to (B, B).",
        )


def leader_count(workers: int, leader_fraction: float) -> int:
    """Number of leaders ⌈δW⌉, at least one; 1e-9 absorbs the rounding of products like 0.1 * 30."""
    return max(1, math.ceil(leader_fraction * workers - 1e-9))


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
    ranking = losses.detach()
    if selection == "per_batch":
        ranking = ranking.mean(dim=0, keepdim=True).expand_as(ranking)
    order = ranking.argsort(dim=1, stable=True)
    leaders = order[:, : leader_count(losses.shape[1], leader_fraction)]
    mask = torch.zeros_like(losses, dtype=torch.bool).scatter(1, leaders, True)
    return Leadership(mask, order[:, 0])


def leader_loss(losses: Tensor, leader_mask: Tensor) -> Tensor:
    """Mean prediction loss over leaders and samples: (B, W), (B, W) to a scalar."""
    weights = leader_mask.to(losses.dtype)
    return (losses * weights).sum() / weights.sum()


def follower_loss(
    outputs: Tensor, leadership: Leadership, space: FollowerSpace = "output"
) -> Tensor:
    """Mean over followers of ‖y_i − sg(y_b)‖², b the best leader: (B, W, C) to a scalar.

    The best leader's output carries no gradient. Without followers (δ = 1) the loss is zero.
    With ``space="probability"`` y is the softmax of the outputs, so that the loss does not grow
    with the number of classes or bins.
    """
    if space == "probability":
        outputs = class_softmax(outputs)
    followers = (~leadership.leader_mask).to(outputs.dtype)
    samples = torch.arange(outputs.shape[0], device=outputs.device)
    best = outputs[samples, leadership.best].detach()
    squared_distance = (outputs - best[:, None, :]).square().sum(dim=-1)
    return (squared_distance * followers).sum() / followers.sum().clamp(min=1.0)


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
    follower_space: FollowerSpace = "output",
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
