"""The released brain-age CNN of the leader-follower paper, written anew from its description."""

from collections.abc import Sequence

from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    kernel_size: int = 6,
    dropout: float = 0.2,
) -> dict[str, nn.Module]:
    """Stages of {Conv3d 6, valid → ReLU → MaxPool 2 → BatchNorm → Dropout 0.2 (not the first)}.

    For an input of 128³ the grid becomes 61, 28, 11 and 3 voxels wide.
    """
    stages: dict[str, nn.Module] = {}
    width = in_channels
    for number, out_channels in enumerate(channels, start=1):
        stages[f"conv{number}"] = nn.Sequential(
            nn.Conv3d(width, out_channels, kernel_size),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.BatchNorm3d(out_channels),
            nn.Dropout(dropout if number > 1 else 0.0),
        )
        width = out_channels
    return stages
