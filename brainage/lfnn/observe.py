"""What leaders and followers do: accuracy, inference without one of them, activity, diversity.

Pure functions of tensors, for the figures S1, S2 and S4 and the table S10 of Cheng, Yin et al.,
arXiv 2310.07885. The paper gives no formulas for them: each docstring states our reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from brainage.errors import ShapeError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import Leadership, select_leaders
from brainage.lfnn.targets import Target


def rank_workers(
    outputs: Tensor, target_values: Tensor, target: Target, leader_fraction: float
) -> Leadership:
    """Choose the leaders of a block over a whole set of samples, the same for all of them.

    Parameters
    ----------
    outputs : torch.Tensor (B, W, C)
        Worker outputs on samples whose labels may be used: training or validation.

    Returns
    -------
    Leadership
        `leader_mask` of shape (W,), and `best` as a scalar.
    """
    chosen = select_leaders(target.loss(outputs, target_values), leader_fraction, "per_batch")
    return Leadership(chosen.leader_mask[0], chosen.best[0])


def worker_accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Compute the share of samples that each worker classifies rightly: (B, W, C), (B,) to (W,).

    The accuracy of the best leader (figure S1) is the entry of `rank_workers`' best.
    """
    return (outputs.argmax(dim=-1) == labels[:, None]).float().mean(dim=0)


def keep_workers(features: Tensor, kept: Tensor) -> Tensor:
    """Silence the channel groups of all other workers: (B, channels, ...), (W,) of bool.

    Worker w owns the w-th of W equal groups of channels; token features (B, tokens, channels)
    are grouped along their last axis.

    Raises
    ------
    ShapeError
        If the channels cannot be divided evenly among the workers.
    """
    axis = 2 if features.ndim == 3 else 1
    channels, workers = features.shape[axis], kept.numel()
    if channels % workers:
        raise ShapeError(
            "features", f"{channels} channels cannot be divided evenly among {workers} workers."
        )
    mask = kept.to(features.dtype).repeat_interleave(channels // workers)
    shape = [1] * features.ndim
    shape[axis] = channels
    return features * mask.view(shape)


@torch.no_grad()
def predict_with(stack: BlockStack, inputs: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """Predict (B, C) with only some workers of each hidden block feeding the next (figure S2).

    Parameters
    ----------
    inputs : torch.Tensor (B, C, ...)
        Samples.
    kept : sequence of torch.Tensor of bool (W,)
        For each hidden block, its workers that speak: the leaders, or the followers. The output
        block always speaks. The paper's "both" is `stack(inputs)`.

    Raises
    ------
    ShapeError
        If there is not one mask a hidden block.
    """
    if len(kept) != len(stack) - 1:
        raise ShapeError("kept", f"expected {len(stack) - 1} masks, got {len(kept)}.")
    features = inputs
    for block_index, mask in enumerate(kept):
        features = keep_workers(stack[block_index].body(features), mask)
    last = len(stack) - 1
    return stack.read_out(last, stack[last].body(features)).squeeze(1)


def worker_activity(before: Tensor, after: Tensor) -> Tensor:
    """Measure how far each worker's output moved in a step (figure S4): two (B, W, C) to (W,).

    ‖y(t) − y(t−1)‖ on the same samples, mean over them.
    """
    return (after - before).norm(dim=-1).mean(dim=0)


def mean_by_role(values: Tensor, leader_mask: Tensor) -> tuple[float, float]:
    """Average one number a worker over leaders and over followers; NaN without followers."""
    return float(values[leader_mask].mean()), float(values[~leader_mask].mean())


@dataclass(frozen=True)
class Diversity:
    """How alike the workers of a block are (table S10).

    Attributes
    ----------
    leader_follower_cosine, followers_cosine : float
        Cosine of two workers' outputs on a sample: mean over samples and pairs.
    leader_follower_distance, followers_distance : float
        ‖a − b‖ / (‖a‖ + ‖b‖), from 0 (equal) to 1 (opposite): mean over samples and pairs.
    shared_residual : float
        cos(F, F) − cos(L, F)²: what followers have in common beyond the leader. Near 0 for a
        leader plus independent residuals, 1 − cos(L, F)² for one residual that all share.
    leader_variance, follower_variance : float
        Share of an output's mean square that varies from sample to sample: 0 for a constant
        output, 1 for one that is zero on average; mean over classes and workers.
    """

    leader_follower_cosine: float
    followers_cosine: float
    leader_follower_distance: float
    followers_distance: float
    shared_residual: float
    leader_variance: float
    follower_variance: float


def feature_diversity(outputs: Tensor, leader_mask: Tensor) -> Diversity:
    """Compare all pairs of workers of a block.

    Parameters
    ----------
    outputs : torch.Tensor (B, W, C)
        Worker outputs.
    leader_mask : torch.Tensor of bool (W,)
        Leaders; a pair that does not exist (one follower, no follower) gives NaN.
    """
    direction = functional.normalize(outputs, dim=-1)
    cosine = torch.einsum("bwc,bvc->bwv", direction, direction)
    length = outputs.norm(dim=-1)
    total = (length[:, :, None] + length[:, None, :]).clamp(min=torch.finfo(outputs.dtype).tiny)
    distance = torch.cdist(outputs, outputs) / total
    across = leader_mask[:, None] & ~leader_mask
    within = ~(leader_mask[:, None] | leader_mask)
    within.fill_diagonal_(False)
    power = outputs.square().mean(dim=0).clamp(min=torch.finfo(outputs.dtype).tiny)
    varying = (outputs.var(dim=0, correction=0) / power).mean(dim=-1)
    leader_variance, follower_variance = mean_by_role(varying, leader_mask)
    to_leader, among_followers = _mean_over(cosine, across), _mean_over(cosine, within)
    return Diversity(
        leader_follower_cosine=to_leader,
        followers_cosine=among_followers,
        shared_residual=among_followers - to_leader**2,
        leader_follower_distance=_mean_over(distance, across),
        followers_distance=_mean_over(distance, within),
        leader_variance=leader_variance,
        follower_variance=follower_variance,
    )


def _mean_over(pairs: Tensor, chosen: Tensor) -> float:
    return float(pairs[:, chosen].mean())
