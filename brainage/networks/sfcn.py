"""SFCN, the simple fully convolutional network (Peng et al. 2021, Medical Image Analysis 68)."""

from collections.abc import Sequence

import torch
from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (32, 64, 128, 256, 256, 64),
) -> dict[str, nn.Module]:
    """Stages of {Conv3d 3 → BatchNorm → MaxPool 2 → ReLU}, the last {Conv3d 1 → BatchNorm → ReLU}.

    The age-bin convolution at the network's end is the head of the last block.
    """
    stages: dict[str, nn.Module] = {}
    width = in_channels
    *reducing, last = channels
    for number, out_channels in enumerate(reducing, start=1):
        convolution = nn.Conv3d(width, out_channels, 3, padding=1)
        # Channels beside each other in memory: pooling is faster on a CPU.
        convolution.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        stages[f"conv{number}"] = nn.Sequential(
            convolution,
            nn.BatchNorm3d(out_channels),
            nn.MaxPool3d(2),
            nn.ReLU(),
        )
        width = out_channels
    stages[f"conv{len(channels)}"] = nn.Sequential(
        nn.Conv3d(width, last, 1), nn.BatchNorm3d(last), nn.ReLU()
    )
    return stages
