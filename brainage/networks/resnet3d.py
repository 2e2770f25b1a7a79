"""A 3-D residual network; stages are residual units, never cut inside."""

from collections.abc import Sequence

from torch import nn

from brainage.networks._residual import build_residual_stages


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    units: Sequence[int] = (2, 2, 2, 2),
    stem_stride: int = 1,
) -> dict[str, nn.Module]:
    """Build a stem convolution, then groups of basic units; later groups halve the grid.

    Raises
    ------
    ValueError
        If `channels` and `units` differ in length.
    """
    return build_residual_stages(in_channels, input_size, channels, units, stem_stride=stem_stride)
