"""Residual networks for images (He et al. 2016); stages are residual units, never cut inside."""

from torch import nn

from brainage.networks._residual import build_residual_stages

_BOTTLENECK_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    depth: int = 32,
    width: int | None = None,
    small_images: bool = True,
) -> dict[str, nn.Module]:
    """ResNet-50, -101 or -152 of bottleneck units, or ResNet-(6n + 2) of basic units for CIFAR.

    Where the width changes the shortcut is a 1×1 convolution (option B of He et al.), in all.

    Parameters
    ----------
    depth : int
        50, 101 or 152; or 6n + 2, such as 20, 32, 56 and 110.
    width : int, optional
        Channels of the first group: 64 with bottlenecks, 16 without.
    small_images : bool
        With bottlenecks: a 3×3 stem of stride 1 and no max-pool, instead of 7×7 of stride 2 with
        one. Networks of basic units always have the former.

    Raises
    ------
    ValueError
        If there is no network of that depth.
    """
    if depth in _BOTTLENECK_UNITS:
        first = 64 if width is None else width
        return build_residual_stages(
            in_channels,
            input_size,
            [first, 2 * first, 4 * first, 8 * first],
            _BOTTLENECK_UNITS[depth],
            bottleneck=True,
            stem_size=3 if small_images else 7,
            stem_stride=1 if small_images else 2,
            stem_pool=not small_images,
        )
    units, rest = divmod(depth - 2, 6)
    if rest or units < 1:
        raise ValueError(f"depth must be 50, 101, 152 or 6n + 2, got {depth}")
    first = 16 if width is None else width
    return build_residual_stages(
        in_channels, input_size, [first, 2 * first, 4 * first], [units] * 3
    )
