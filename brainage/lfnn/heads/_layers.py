"""Layers that several heads are made of, for vectors, tokens, images and volumes alike."""

from torch import Tensor, nn
from torch.nn import functional

from brainage.errors import ConfigError
from brainage.lfnn.workers import Head, HeadToken, feature_channels


def check_reads_all(head: Head) -> None:
    """Refuse workers that read their own channels where a head mixes all of them first.

    Raises
    ------
    ConfigError
        If `head.reads` is "own".
    """
    if head.reads == "own":
        problem = f"own does not go with head {head.kind}, which mixes all channels."
        raise ConfigError("learning.worker_reads", problem, "Use worker_reads: all.")


def mix(shape: tuple[int, ...], width: int, *, is_plain: bool = False) -> nn.Module:
    """Build a layer across channels, the same at each place: {1-wide → norm → ReLU}.

    Parameters
    ----------
    shape : tuple of int
        (C,), (tokens, C), (C, I, J) or (C, I, J, K).
    width : int
        Channels after it.
    is_plain : bool
        Leave norm and ReLU out.
    """
    channels = feature_channels(shape)
    if len(shape) < 3:
        norm: nn.Module = nn.BatchNorm1d(width) if len(shape) == 1 else nn.LayerNorm(width)
        layer: nn.Module = nn.Linear(channels, width, bias=is_plain)
    elif len(shape) == 3:
        layer, norm = nn.Conv2d(channels, width, 1, bias=is_plain), nn.BatchNorm2d(width)
    else:
        layer, norm = nn.Conv3d(channels, width, 1, bias=is_plain), nn.BatchNorm3d(width)
    return layer if is_plain else nn.Sequential(layer, norm, nn.ReLU())


class Pool(nn.Module):
    """Average feature maps over the cells of a grid: (B, C, ...) to (B, C, *grid)."""

    def __init__(self, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, features: Tensor) -> Tensor:
        """Average."""
        return average_cells(features, self.grid)


class ReadToken(nn.Module):
    """Tokens (B, tokens, C) to their mean or the first of them: (B, C)."""

    def __init__(self, token: HeadToken) -> None:
        super().__init__()
        self.token = token

    def forward(self, tokens: Tensor) -> Tensor:
        """Read one vector a sample."""
        return tokens[:, 0] if self.token == "class" else tokens.mean(dim=1)


def average_cells(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Average maps (B, C, I, J) or (B, C, I, J, K) over the cells of a grid."""
    if len(grid) == 3:
        return functional.adaptive_avg_pool3d(features, (grid[0], grid[1], grid[2]))
    return functional.adaptive_avg_pool2d(features, (grid[0], grid[1]))
