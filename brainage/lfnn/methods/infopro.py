"""InfoPro with a classifier: a block predicts, and keeps what is needed to rebuild its input.

Hidden blocks: the loss of `lfnn_l` with δ = 1, plus w_k times the share of the block's input that a
small decoder fails to reconstruct from its output; w_k falls evenly from 1 in the first block
towards 0 in the last, as in the source. Source: Wang, Ni, Song, Yang & Huang 2021 (ICLR, arXiv
2101.10832), whose decoder rebuilds the image: here it is the block's own input, all that an
isolated block has, and the same thing in the first one.
"""

import math

from torch import Tensor, nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.heads._layers import average_cells
from brainage.lfnn.step import (
    AuxiliaryRequest,
    StepSettings,
    all_lead_loss,
    local_rule,
)
from brainage.lfnn.targets import at_least_float32
from brainage.lfnn.workers import feature_channels

COARSE = {2: 8, 3: 4}
"""Edge of the grid that an image or a volume is rebuilt on from vectors or tokens."""
HIDDEN = (12, 64)
"""Channels inside the decoder: as many as the input has, but within these."""


class Decoder(nn.Module):
    """Rebuild a block's input from its output.

    Maps from maps: interpolated to the input's grid, then {3-wide convolution → norm → ReLU →
    3-wide convolution}. Where kinds differ, or for vectors and tokens, two linear layers; an image
    or volume is then rebuilt on a coarse grid, tokens as their mean.
    """

    def __init__(self, feature_shape: tuple[int, ...], input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.keeps_maps = len(feature_shape) == len(input_shape) and len(input_shape) > 2
        channels, wanted = feature_channels(feature_shape), feature_channels(input_shape)
        width = min(max(wanted, HIDDEN[0]), HIDDEN[1])
        if self.keeps_maps:
            is_volume = len(input_shape) == 4
            convolution = nn.Conv3d if is_volume else nn.Conv2d
            self.layers = nn.Sequential(
                convolution(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm3d(width) if is_volume else nn.BatchNorm2d(width),
                nn.ReLU(),
                convolution(width, wanted, 3, padding=1),
            )
            return
        size = wanted * math.prod(coarse_grid(input_shape))
        self.layers = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, size))

    def forward(self, features: Tensor, block_input: Tensor) -> Tensor:
        """Return the share of the input's variance in the batch that is not rebuilt: a scalar."""
        if self.keeps_maps:
            features = functional.interpolate(features, self.input_shape[1:])
            rebuilt, wanted = self.layers(features), block_input
        else:
            rebuilt, wanted = self.layers(as_vectors(features)), self._coarse(block_input)
        rebuilt = at_least_float32(rebuilt)
        wanted = wanted.to(rebuilt.dtype)
        spread = wanted.var(correction=0).clamp(min=1e-8)
        return functional.mse_loss(rebuilt, wanted) / spread

    def _coarse(self, block_input: Tensor) -> Tensor:
        if block_input.ndim > 3:
            return average_cells(block_input, coarse_grid(self.input_shape)).flatten(1)
        return as_vectors(block_input)


def coarse_grid(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Grid that maps (C, I, J) or (C, I, J, K) are rebuilt on from vectors; () for other inputs."""
    size = input_shape[1:] if len(input_shape) > 2 else ()
    return tuple(min(COARSE[len(size)], edge) for edge in size)


def as_vectors(features: Tensor) -> Tensor:
    """Average maps over their grid and tokens over their number: (B, ...) to (B, C)."""
    if features.ndim == 3:
        return features.mean(dim=1)
    return features.flatten(2).mean(dim=2) if features.ndim > 3 else features


def rebuild_loss(
    decoder: nn.Module,
    stack: BlockStack,
    block_index: int,
    settings: StepSettings,
    features: Tensor,
) -> Tensor:
    """Weigh what the decoder fails to rebuild: (1 − k/(K − 1)) times its share."""
    assert settings.block_input is not None
    with settings.autocast():
        lost: Tensor = decoder(features, settings.block_input)
    return (1 - block_index / (len(stack) - 1)) * lost


def _hidden_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor,
) -> Tensor:
    decoder = stack[block_index].auxiliary
    assert decoder is not None
    prediction = all_lead_loss(outputs, target_values, settings)
    return prediction + rebuild_loss(decoder, stack, block_index, settings, features)


def build_decoder(request: AuxiliaryRequest) -> nn.Module:
    """Build the decoder of a hidden block."""
    return Decoder(request.feature_shape, request.input_shape)


RULE = local_rule(_hidden_loss, build_decoder)
