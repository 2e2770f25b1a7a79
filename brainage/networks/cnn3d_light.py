"""A small 3-D CNN that trains in minutes on two cores."""

from collections.abc import Sequence

from monai.networks.blocks import Convolution
from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    dropout: float = 0.0,
) -> dict[str, nn.Module]:
    """Stages of {Conv3d 3 → BatchNorm → ReLU → Dropout → MaxPool 2}, one for each width.

    Each halves the grid: (B, C, I, J, K) to (B, channels[n], I/2, J/2, K/2).
    """
    stages: dict[str, nn.Module] = {}
    width = in_channels
    for number, out_channels in enumerate(channels, start=1):
        convolution = Convolution(
            spatial_dims=len(input_size),
            in_channels=width,
            out_channels=out_channels,
            kernel_size=3,
            adn_ordering="NAD",
            norm="batch",
            act="relu",
            dropout=dropout or None,
            bias=False,
        )
        stages[f"conv{number}"] = nn.Sequential(convolution, nn.MaxPool3d(2))
        width = out_channels
    return stages
