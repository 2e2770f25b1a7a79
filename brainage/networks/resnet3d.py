"""A 3-D residual network from MONAI's residual units; stages are units, never cut inside."""

from collections.abc import Sequence

from monai.networks.blocks import Convolution
from monai.networks.nets.resnet import ResNetBlock
from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    units: Sequence[int] = (2, 2, 2, 2),
    stem_stride: int = 1,
) -> dict[str, nn.Module]:
    """A stem convolution, then groups of basic residual units; later groups halve the grid.

    Raises
    ------
    ValueError
        If `channels` and `units` differ in length.
    """
    if len(channels) != len(units):
        raise ValueError(f"channels has {len(channels)} groups, units has {len(units)}")
    spatial_dims = len(input_size)
    stages: dict[str, nn.Module] = {
        "stem": Convolution(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=channels[0],
            kernel_size=3,
            strides=stem_stride,
            adn_ordering="NA",
            norm="batch",
            act="relu",
            bias=False,
        )
    }
    width = channels[0]
    for group, (out_channels, count) in enumerate(zip(channels, units, strict=True), start=1):
        for unit in range(1, count + 1):
            stride = 2 if group > 1 and unit == 1 else 1
            stages[f"group{group}_unit{unit}"] = _unit(spatial_dims, width, out_channels, stride)
            width = out_channels
    return stages


def _unit(spatial_dims: int, width: int, out_channels: int, stride: int) -> nn.Module:
    shortcut = None
    if stride != 1 or width != out_channels:
        shortcut = Convolution(
            spatial_dims=spatial_dims,
            in_channels=width,
            out_channels=out_channels,
            kernel_size=1,
            strides=stride,
            adn_ordering="N",
            norm="batch",
            bias=False,
        )
    return ResNetBlock(width, out_channels, spatial_dims, stride=stride, downsample=shortcut)
