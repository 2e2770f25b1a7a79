"""WorkerHead: features of a block to the outputs of its workers."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainage.errors import ConfigError

WorkerReads = Literal["all", "own"]
HeadNorm = Literal["batch", "layer", "none"]


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
        Edge of the pooled grid of spatial features; tokens are averaged.
    norm : {"batch", "layer", "none"}
        Normalisation of the pooled features; "batch" needs batches of two or more.

    Raises
    ------
    ConfigError
        If `reads` is "own" and the channels cannot be dealt evenly to the workers.
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
    ) -> None:
        super().__init__()
        self.workers, self.outputs, self.reads = workers, outputs, reads
        self.is_spatial = len(feature_shape) >= 3
        self.pooled_grid = tuple(min(pool, size) for size in feature_shape[1:])
        channels = feature_shape[0] if len(feature_shape) != 2 else feature_shape[1]
        width = channels * (math.prod(self.pooled_grid) if self.is_spatial else 1)
        groups = self._groups(channels)
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
                f"{channels} channels cannot be dealt evenly to {self.workers} workers.",
                f"Use {fitting} workers, or worker_reads: all.",
            )
        return self.workers

    def forward(self, features: Tensor) -> Tensor:
        """Worker outputs (B, W, C) from features (B, channels, ...) or (B, tokens, channels)."""
        pooled = self.dropout(self.norm(self.pool(features)))
        if self.reads == "all":
            flat = functional.linear(pooled, self.weight.flatten(0, 1), self.bias.flatten())
            return flat.unflatten(1, (self.workers, self.outputs))
        own = pooled.unflatten(1, (self.workers, -1))
        return torch.einsum("bwf,wcf->bwc", own, self.weight) + self.bias

    def pool(self, features: Tensor) -> Tensor:
        """Features as vectors (B, F), channels slowest: groups of channels stay together."""
        if self.is_spatial:
            spatial = _adaptive_average(features, self.pooled_grid)
            return spatial.flatten(1)
        return features.mean(dim=1) if features.ndim == 3 else features


def _adaptive_average(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    if len(grid) == 3:
        return functional.adaptive_avg_pool3d(features, (grid[0], grid[1], grid[2]))
    return functional.adaptive_avg_pool2d(features, (grid[0], grid[1]))


def _build_norm(norm: HeadNorm, width: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm1d(width)
    return nn.LayerNorm(width) if norm == "layer" else nn.Identity()
