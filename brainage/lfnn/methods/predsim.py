"""Predsim: a prediction loss and a similarity-matching loss in every block, each block alone.

Hidden blocks: (1 − β)·L_prediction + β·L_similarity, δ = 1; the last block: L_g. Source:
Nøkland & Eidnes 2019 (ICML, arXiv 1901.06656), equations 1 to 3, with β = 0.99.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import (
    AuxiliaryRequest,
    StepSettings,
    all_lead_loss,
    local_rule,
)
from brainage.lfnn.targets import Classes, at_least_float32

SIMILARITY_WEIGHT = 0.99


def similarity_matrix(features: Tensor) -> Tensor:
    """Compute cosines between the samples' centred features: (B, ...) to (B, B).

    Feature maps are first reduced to the standard deviation of each channel over its positions.
    """
    if features.ndim > 2 and features[0, 0].numel() > 1:
        features = features.flatten(2).std(dim=2)
    flat = features.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    unit = functional.normalize(centred, dim=1, eps=1e-8)
    return unit @ unit.T


def target_similarity(target_values: Tensor, settings: StepSettings, like: Tensor) -> Tensor:
    """Compute similarities of the targets (B, B): of one-hot labels, or of ages' distances.

    For ages, which the source does not treat, two scans are as alike as their distance in
    standard deviations of the batch is small: exp(−d²/2), our reading.
    """
    if isinstance(settings.target, Classes):
        one_hot = functional.one_hot(target_values.long(), settings.target.outputs)
        return similarity_matrix(one_hot.to(like.dtype))
    ages = target_values.to(like.dtype)
    spread = ages.std(correction=0).clamp(min=1e-8)
    return torch.exp(-0.5 * ((ages[:, None] - ages[None, :]) / spread).square())


def build_projection(request: AuxiliaryRequest) -> nn.Module:
    """Build a 3-wide convolution, or a linear layer for vectors and tokens, as wide as they are."""
    shape = request.feature_shape
    if len(shape) < 3:
        return nn.Linear(shape[-1], shape[-1], bias=False)
    convolution = nn.Conv3d if len(shape) == 4 else nn.Conv2d
    return convolution(shape[0], shape[0], 3, padding=1, bias=False)


def _hidden_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor,
) -> Tensor:
    projection = stack[block_index].auxiliary
    assert projection is not None
    with settings.autocast():
        projected = projection(features)
    if projected.ndim == 3:  # tokens (B, tokens, C): channels first, as feature maps have them
        projected = projected.transpose(1, 2)
    similarity = similarity_matrix(at_least_float32(projected))
    wanted = target_similarity(target_values, settings, similarity)
    prediction = all_lead_loss(outputs, target_values, settings)
    matching = functional.mse_loss(similarity, wanted)
    return (1 - SIMILARITY_WEIGHT) * prediction + SIMILARITY_WEIGHT * matching


RULE = local_rule(_hidden_loss, build_projection)
