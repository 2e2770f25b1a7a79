"""The released brain-age CNN of the leader-follower paper, written anew from its description."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class SlabStage(nn.Sequential):
    """Convolution, ReLU, pooling, then the rest; the first three slab by slab if asked.

    The first stage holds most of the network's activations. With `slabs` > 1 its maps before the
    pooling are made one slab of the first axis at a time and recomputed in the backward pass, so
    that only one slab of them is ever in memory. The result is the same but for rounding.

    Parameters
    ----------
    modules : torch.nn.Module
        Valid convolution of stride 1, ReLU, max-pooling by 2, and what follows.
    slabs : int
        1: all at once.
    """

    def __init__(self, *modules: nn.Module, slabs: int = 1) -> None:
        super().__init__(*modules)
        self.slabs = slabs

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, C, I', J', K') from (B, C, I, J, K)."""
        if self.slabs == 1 or not torch.is_grad_enabled():
            result: Tensor = super().forward(inputs)
            return result
        convolution = self[0]
        assert isinstance(convolution, nn.Conv3d)
        reach = convolution.kernel_size[0] - 1
        rows = (inputs.shape[2] - reach) // 2
        marks = [rows * n // self.slabs for n in range(self.slabs + 1)]
        pooled = [
            checkpoint(self._pooled, inputs[:, :, 2 * a : 2 * b + reach], use_reentrant=False)
            for a, b in pairwise(marks)
            if b > a
        ]
        features = torch.cat(pooled, dim=2)
        for module in list(self)[3:]:
            features = module(features)
        return features

    def _pooled(self, slab: Tensor) -> Tensor:
        features: Tensor = self[2](self[1](self[0](slab)))
        return features


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    kernel_size: int = 6,
    dropout: float = 0.2,
    slabs: int = 1,
) -> dict[str, nn.Module]:
    """Stages of {Conv3d 6, valid → ReLU → MaxPool 2 → BatchNorm → Dropout 0.2 (not the first)}.

    For an input of 128³ the grid becomes 61, 28, 11 and 3 voxels wide. `slabs` trades time for
    memory in the first stage: see `SlabStage`.

    Raises
    ------
    ValueError
        If `slabs` is below 1.
    """
    if slabs < 1:
        raise ValueError(f"slabs is {slabs}, and must be 1 or more")
    stages: dict[str, nn.Module] = {}
    width = in_channels
    for number, out_channels in enumerate(channels, start=1):
        stages[f"conv{number}"] = SlabStage(
            nn.Conv3d(width, out_channels, kernel_size),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.BatchNorm3d(out_channels),
            nn.Dropout(dropout if number > 1 else 0.0),
            slabs=slabs if number == 1 else 1,
        )
        width = out_channels
    return stages
