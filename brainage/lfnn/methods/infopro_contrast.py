"""InfoPro with a contrastive loss in place of the classifier.

Hidden blocks: a contrastive loss of projected features, plus what cannot be rebuilt of the block's
input (see `infopro`). For classes the positives of a sample are those of its class (Khosla et al.
2020, arXiv 2004.11362, L_out). For ages, which InfoPro does not treat, every other sample is a
positive by weight exp(−d²/2σ²), d the distance of ages and σ five years (Dufumier et al. 2021,
arXiv 2106.08808). The block's head learns to read the features and sends no gradient into them.
Source: Wang, Ni, Song, Yang & Huang 2021 (ICLR, arXiv 2101.10832).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import masked_mean
from brainage.lfnn.methods.infopro import Decoder, as_vectors, rebuild_loss
from brainage.lfnn.step import (
    AuxiliaryRequest,
    StepSettings,
    all_lead_loss,
    local_rule,
)
from brainage.lfnn.targets import Classes, Target, at_least_float32
from brainage.lfnn.workers import feature_channels

TEMPERATURE = 0.07
AGE_SIGMA_YEARS = 5.0
PROJECTED = 128


class DecoderAndProjection(nn.Module):
    """What the loss needs beside the head: a decoder, and {linear → ReLU → linear} to 128."""

    def __init__(self, feature_shape: tuple[int, ...], input_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = feature_channels(feature_shape)
        self.decoder = Decoder(feature_shape, input_shape)
        self.projection = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, PROJECTED)
        )


def pair_weights(target_values: Tensor, target: Target) -> Tensor:
    """Weigh samples as positives of each other, 0 for itself: (B,) to (B, B)."""
    if isinstance(target, Classes):
        weights = (target_values[:, None] == target_values[None, :]).float()
    else:
        ages = target_values.float()
        weights = torch.exp(-0.5 * ((ages[:, None] - ages) / AGE_SIGMA_YEARS).square())
    return weights.fill_diagonal_(0.0)


def contrastive_loss(projected: Tensor, weights: Tensor) -> Tensor:
    """Mean over samples of −Σ_j w_ij log p_ij / Σ_j w_ij, p_ij the softmax of cosines over j ≠ i.

    Parameters
    ----------
    projected : torch.Tensor (B, D)
        Any length; compared by direction.
    weights : torch.Tensor (B, B)
        Of positives, zero on the diagonal. Samples without any are left out.
    """
    unit = functional.normalize(projected, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    log_share = functional.log_softmax(similarity, dim=1).masked_fill(itself, 0.0)
    total = weights.sum(dim=1)
    losses = -(weights.to(unit.dtype) * log_share).sum(dim=1)
    if losses.is_cuda:
        return mean_of_paired(losses, total)
    losses = losses[total > 0] / total[total > 0]
    # A sum and not a mean: of no sample at all it is zero, and still has a gradient.
    return losses.sum() / max(1, len(losses))


def mean_of_paired(losses: Tensor, total: Tensor) -> Tensor:
    """Average losses (B,) over their positives (B,), samples without any left out: a scalar.

    How many are left out is not asked of the device, so that a step can be captured as a CUDA
    graph; another order of sums may move the last digit.
    """
    has_positives = total > 0
    return masked_mean(losses / total.where(has_positives, 1.0), has_positives)


def _hidden_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor,
) -> Tensor:
    parts = stack[block_index].auxiliary
    assert isinstance(parts, DecoderAndProjection)
    with settings.autocast():
        projected = parts.projection(as_vectors(features))
        read = stack.read_out(block_index, features.detach())
    weights = pair_weights(target_values, settings.target)
    contrast = contrastive_loss(at_least_float32(projected), weights)
    reading = all_lead_loss(read, target_values, settings)
    return contrast + reading + rebuild_loss(parts.decoder, stack, block_index, settings, features)


def build_parts(request: AuxiliaryRequest) -> nn.Module:
    """Build the decoder and the projection of a hidden block."""
    return DecoderAndProjection(request.feature_shape, request.input_shape)


RULE = local_rule(_hidden_loss, build_parts)
