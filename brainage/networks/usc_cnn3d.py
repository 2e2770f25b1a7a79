"""The released brain-age CNN of the leader-follower paper, written anew from its description."""

from collections.abc import Sequence

import torch
from torch import nn

from brainage.networks._slabs import PoolByTwo, PooledStage, UniformDropout


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    kernel_size: int = 6,
    dropout: float = 0.2,
    slabs: int = 8,
    winograd: bool = False,
) -> dict[str, nn.Module]:
    """Stages of {Conv3d 6, valid → MaxPool 2 → ReLU → BatchNorm → Dropout 0.2 (not the first)}.

    For an input of 128³ the grid becomes 61, 28, 11 and 3 voxels wide. The first stage works in
    `slabs`, which takes half of the memory in the same time: see `PooledStage`. With `winograd`,
    the convolutions that it makes faster on a CPU take fewer multiplications: the same numbers but
    for rounding, see `_winograd`.

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
        convolution = nn.Conv3d(width, out_channels, kernel_size)
        convolution.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        stages[f"conv{number}"] = PooledStage(
            convolution,
            PoolByTwo(),
            nn.ReLU(),
            nn.BatchNorm3d(out_channels),
            UniformDropout(dropout if number > 1 else 0.0),
            slabs=slabs if number == 1 else 1,
            winograd=winograd,
        )
        width = out_channels
    return stages
