"""Residual networks of any dimension from MONAI's units; stages are units, never cut inside."""

from collections.abc import Sequence

from monai.networks.blocks import Convolution
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import nn


def build_residual_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    channels: Sequence[int],
    units: Sequence[int],
    *,
    bottleneck: bool = False,
    stem_size: int = 3,
    stem_stride: int = 1,
    stem_pool: bool = False,
) -> dict[str, nn.Module]:
    """Build a stem convolution, then groups of residual units; later groups halve the grid.

    Parameters
    ----------
    channels, units : sequence of int
        Width and number of units of each group; a bottleneck unit gives out four times its width.
    stem_pool : bool
        End the stem with a max-pool of stride 2.

    Raises
    ------
    ValueError
        If `channels` and `units` differ in length.
    """
    if len(channels) != len(units):
        raise ValueError(f"channels has {len(channels)} groups, units has {len(units)}")
    spatial_dims = len(input_size)
    stem: nn.Module = Convolution(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=channels[0],
        kernel_size=stem_size,
        strides=stem_stride,
        adn_ordering="NA",
        norm="batch",
        act="relu",
        bias=False,
    )
    if stem_pool:
        pool = nn.MaxPool3d if spatial_dims == 3 else nn.MaxPool2d
        stem = nn.Sequential(stem, pool(3, stride=2, padding=1))
    stages = {"stem": stem}
    width = channels[0]
    for group, (out_channels, count) in enumerate(zip(channels, units, strict=True), start=1):
        for unit in range(1, count + 1):
            stride = 2 if group > 1 and unit == 1 else 1
            name, args = f"group{group}_unit{unit}", (spatial_dims, width, out_channels, stride)
            stages[name] = _unit(*args, bottleneck)
            width = _out_channels(out_channels, bottleneck)
    return stages


def _out_channels(planes: int, bottleneck: bool) -> int:
    return int(planes * ResNetBottleneck.expansion) if bottleneck else planes


def _unit(spatial_dims: int, width: int, planes: int, stride: int, bottleneck: bool) -> nn.Module:
    shortcut, out_channels = None, _out_channels(planes, bottleneck)
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
    unit = ResNetBottleneck if bottleneck else ResNetBlock
    return unit(width, planes, spatial_dims, stride=stride, downsample=shortcut)
