"""Workers: what reads the features of a block; `brainage.lfnn.heads` builds the heads of them."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainage.errors import ConfigError
from brainage.lfnn.losses import check_word

WorkerReads = Literal["all", "own"]
HeadNorm = Literal["batch", "layer", "none"]
HeadToken = Literal["mean", "class"]


@dataclass(frozen=True)
class Head:
    """What reads the features of a block: see `WorkerHead` and `NativeHead`.

    Attributes
    ----------
    kind : str
        Module of `brainage.lfnn.heads`: linear, conv, thin, dgl, auglocal or native. The
        network's output is always linear.
    workers : int
        W, of a hidden block.
    reads, pool, norm, dropout, token
        As in `WorkerHead`, of a hidden block.
    output_pool : int
        `pool` of the network's output.
    channels_last : bool
        Feature maps are (B, I, J, C) or (B, I, J, K, C), as in some transformers.
    """

    kind: str = "linear"
    workers: int = 8
    reads: WorkerReads = "all"
    pool: int = 2
    norm: HeadNorm = "batch"
    dropout: float = 0.0
    token: HeadToken = "mean"
    output_pool: int = 2
    channels_last: bool = False

    def __post_init__(self) -> None:
        for name, known in (("reads", WorkerReads), ("norm", HeadNorm), ("token", HeadToken)):
            check_word(f"Head.{name}", getattr(self, name), known)
        for name in ("workers", "pool", "output_pool"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Head.{name}", f"expected 1 or more, got {getattr(self, name)}.")


class NativeHead(nn.Module):
    """The block's own units are the workers' outputs; nothing is added.

    A fully connected layer of W·C units has W workers of C neurons each (Cheng, Yin et al., arXiv
    2310.07885: 32 workers of 10 neurons). Of feature maps and tokens the channels' means count.

    Parameters
    ----------
    feature_shape : tuple of int
        Shape of the features without the batch.

    Raises
    ------
    ConfigError
        If the channels are not workers times outputs.
    """

    def __init__(self, feature_shape: tuple[int, ...], outputs: int, *, workers: int) -> None:
        super().__init__()
        self.workers, self.outputs = workers, outputs
        channels = feature_channels(feature_shape)
        if channels != workers * outputs:
            raise ConfigError(
                "learning.head",
                f"native needs {workers} workers × {outputs} outputs = {workers * outputs} "
                f"channels, the block has {channels}.",
                "Change workers_per_block or the network's width, or use head: linear.",
            )

    def forward(self, features: Tensor) -> Tensor:
        """Read worker outputs (B, W, C) from features (B, W·C, ...) or (B, tokens, W·C)."""
        if features.ndim == 3:
            features = features.mean(dim=1)
        elif features.ndim > 3:
            features = features.flatten(2).mean(dim=2)
        return features.unflatten(1, (self.workers, self.outputs))


def feature_channels(feature_shape: tuple[int, ...]) -> int:
    """Count the channels of features (C,), (tokens, C), (C, I, J) or (C, I, J, K)."""
    return feature_shape[1] if len(feature_shape) == 2 else feature_shape[0]


class WorkerHead(nn.Module):
    """Pool the features of a block, normalise them, and let each worker read them linearly.

    Without the normalisation early blocks stay at the constant predictor (measured on OASIS-1).

    Parameters
    ----------
    feature_shape : tuple of int
        Shape of the features without the batch: (C, I, J, K), (C, I, J), (tokens, C) or (C,).
    outputs : int
        Classes or age bins a worker predicts.
    workers : int
        Number of workers W.
    reads : {"all", "own"}
        Each worker reads the whole block, or only its own group of channels.
    pool : int
        Edge of the pooled grid of spatial features.
    token : {"mean", "class"}
        Of tokens, the mean or the first one is read.
    convolves : bool
        Put one convolution {3 wide, stride 2 → BatchNorm → ReLU} of the features' width before
        the pooling, as in Decoupled Greedy Learning (Belilovsky et al. 2020); with ``reads="own"``
        it is grouped, so that a worker still sees its own channels only.
    norm : {"batch", "layer", "none"}
        Normalisation of the pooled features; "batch" needs batches of two or more.

    Raises
    ------
    ConfigError
        If `reads` is "own" and the channels cannot be divided evenly among the workers, or
        vectors or tokens are to be convolved.
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        outputs: int,
        *,
        workers: int = 1,
        reads: WorkerReads = "all",
        pool: int = 2,
        norm: HeadNorm = "batch",
        dropout: float = 0.0,
        token: HeadToken = "mean",
        convolves: bool = False,
    ) -> None:
        super().__init__()
        self.workers, self.outputs, self.reads, self.token = workers, outputs, reads, token
        self.is_spatial = len(feature_shape) >= 3
        channels = feature_channels(feature_shape)
        groups = self._groups(channels)
        self.convolution: nn.Module = nn.Identity()
        if convolves:
            self.convolution = _build_convolution(feature_shape, groups)
            feature_shape = (channels, *(-(-size // 2) for size in feature_shape[1:]))
        self.pooled_grid = tuple(min(pool, size) for size in feature_shape[1:])
        width = channels * (math.prod(self.pooled_grid) if self.is_spatial else 1)
        self.norm = _build_norm(norm, width)
        self.dropout = nn.Dropout(dropout)
        fan_in = width // groups
        bound = 1.0 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(workers, outputs, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(workers, outputs).uniform_(-bound, bound))

    def _groups(self, channels: int) -> int:
        if self.reads == "all":
            return 1
        if channels % self.workers:
            fitting = max(w for w in range(1, min(self.workers, channels) + 1) if channels % w == 0)
            raise ConfigError(
                "learning.workers_per_block",
                f"{channels} channels cannot be divided evenly among {self.workers} workers.",
                f"Use {fitting} workers, or worker_reads: all.",
            )
        return self.workers

    def forward(self, features: Tensor) -> Tensor:
        """Read worker outputs (B, W, C) off features (B, channels, ...), (B, tokens, channels)."""
        pooled = self.dropout(self.norm(self.pool(self.convolution(features))))
        if self.reads == "all":
            flat = functional.linear(pooled, self.weight.flatten(0, 1), self.bias.flatten())
            return flat.unflatten(1, (self.workers, self.outputs))
        own = pooled.unflatten(1, (self.workers, -1))
        return torch.einsum("bwf,wcf->bwc", own, self.weight) + self.bias

    def pool(self, features: Tensor) -> Tensor:
        """Turn features into vectors (B, F), channels slowest: their groups stay together."""
        if self.is_spatial:
            spatial = _adaptive_average(features, self.pooled_grid)
            return spatial.flatten(1)
        if features.ndim == 2:
            return features
        return features[:, 0] if self.token == "class" else features.mean(dim=1)


def _adaptive_average(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    if set(grid) == {1}:  # the gradient of a sum needs no memory
        axes = tuple(range(2, features.ndim))
        return features.sum(axes, keepdim=True) / math.prod(features.shape[2:])
    if len(grid) == 3:
        return functional.adaptive_avg_pool3d(features, (grid[0], grid[1], grid[2]))
    return functional.adaptive_avg_pool2d(features, (grid[0], grid[1]))


def _build_convolution(feature_shape: tuple[int, ...], groups: int) -> nn.Module:
    if len(feature_shape) < 3:
        raise ConfigError(
            "learning.head",
            f"conv needs feature maps, the block gives features of shape {feature_shape}.",
            "Use head: linear.",
        )
    channels, is_volume = feature_shape[0], len(feature_shape) == 4
    convolution = nn.Conv3d if is_volume else nn.Conv2d
    return nn.Sequential(
        convolution(channels, channels, 3, stride=2, padding=1, groups=groups, bias=False),
        nn.BatchNorm3d(channels) if is_volume else nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _build_norm(norm: HeadNorm, width: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm1d(width)
    return nn.LayerNorm(width) if norm == "layer" else nn.Identity()
