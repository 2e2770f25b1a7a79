"""Residual networks for images (He et al. 2016); stages are residual units, never cut inside."""

from torch import nn

from brainage.networks._residual import build_residual_stages

STEMS = {"3x3": (3, 1, False), "7x7": (7, 2, False), "7x7_pool": (7, 2, True)}
"""Width and stride of the first convolution, and whether a max-pool follows."""

_BOTTLENECK_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    depth: int = 32,
    width: int | None = None,
    small_images: bool = True,
    stem: str = "",
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
        With bottlenecks and without `stem`: 3x3 or 7x7_pool.
    stem : {"3x3", "7x7", "7x7_pool"}, optional
        First convolution: 3 wide of stride 1, or 7 wide of stride 2 without or with a max-pool
        behind it. Networks of basic units have 3x3 where it is absent.

    Raises
    ------
    ValueError
        If there is no network of that depth, or no such stem.
    """
    is_bottleneck = depth in _BOTTLENECK_UNITS
    stem = stem or ("7x7_pool" if is_bottleneck and not small_images else "3x3")
    if stem not in STEMS:
        raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")
    size, stride, pool = STEMS[stem]
    if is_bottleneck:
        first = 64 if width is None else width
        return build_residual_stages(
            in_channels,
            input_size,
            [first, 2 * first, 4 * first, 8 * first],
            _BOTTLENECK_UNITS[depth],
            bottleneck=True,
            stem_size=size,
            stem_stride=stride,
            stem_pool=pool,
        )
    units, rest = divmod(depth - 2, 6)
    if rest or units < 1:
        raise ValueError(f"depth must be 50, 101, 152 or 6n + 2, got {depth}")
    first = 16 if width is None else width
    return build_residual_stages(
        in_channels,
        input_size,
        [first, 2 * first, 4 * first],
        [units] * 3,
        stem_size=size,
        stem_stride=stride,
        stem_pool=pool,
    )
