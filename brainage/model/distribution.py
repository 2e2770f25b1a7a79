"""Read ages out of a network: what training, inference and the app share."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.targets import Ages, Target
from brainage.types import DoubleArray, HalfArray

AverageHeads = Literal["none", "all"]
Point = Literal["mean", "median"]
_SMALL_VOXELS = 64**3


@dataclass(frozen=True)
class AgeDistribution:
    """What is predicted of each of N scans.

    Attributes
    ----------
    predicted_age_years : numpy.ndarray of float64 (N,)
        Mean of the predicted distribution, or its median where the settings say so.
    spread_years : numpy.ndarray of float64 (N,)
        Its standard deviation; 0 where a network predicts one number.
    """

    predicted_age_years: DoubleArray
    spread_years: DoubleArray


@contextmanager
def fitting_threads(voxels: int) -> Iterator[None]:
    """Compute small volumes on one thread: the same bits everywhere, and no waiting.

    Shared out, a layer of less than a tenth of a second gains little, and where another process
    has one of the cores each layer waits for it: a map took three times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if voxels <= _SMALL_VOXELS else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def predict_distribution(
    model: BlockStack,
    target: Target,
    arrays: HalfArray,
    batch_size: int = 8,
    average_heads: AverageHeads = "none",
    mirror: bool = False,
    point: Point = "mean",
) -> AgeDistribution:
    """Predict ages of prepared scans (N, I, J, K) with their standard deviations, in float32.

    Batch statistics are frozen, so that a prediction does not depend on its neighbours.

    Parameters
    ----------
    average_heads : {"none", "all"}
        Read the network's output, or the equal mixture of what all blocks' heads predict.
    mirror : bool
        Mix in what is predicted of the scan with left and right exchanged.
    point : {"mean", "median"}
        What of each distribution over age bins counts; of several the mean is taken.
    """
    parts: list[AgeDistribution] = []
    with fitting_threads(math.prod(arrays.shape[1:])):
        for volumes in _batches(model, arrays, batch_size):
            outputs = head_outputs(model, volumes, average_heads, mirror)
            parts.append(mix_distributions([_read(target, item, point) for item in outputs]))
    if not parts:
        return AgeDistribution(np.zeros(0), np.zeros(0))
    return AgeDistribution(
        np.concatenate([part.predicted_age_years for part in parts]),
        np.concatenate([part.spread_years for part in parts]),
    )


def mix_distributions(parts: Sequence[AgeDistribution]) -> AgeDistribution:
    """Mean age and standard deviation of the equal mixture of several distributions.

    The variance of a mixture is the mean of the variances plus the variance of the means, so
    that members who disagree widen it; their bins need not be the same.
    """
    if len(parts) == 1:
        return parts[0]
    means = np.stack([part.predicted_age_years for part in parts])
    spreads = np.stack([part.spread_years for part in parts])
    return AgeDistribution(
        means.mean(axis=0), np.sqrt((spreads**2).mean(axis=0) + means.var(axis=0))
    )


def head_outputs(
    model: BlockStack, volumes: Tensor, average_heads: AverageHeads, mirror: bool
) -> list[Tensor]:
    """Return the outputs (B, C) whose ages are averaged: of heads and mirror images as wanted."""
    outputs: list[Tensor] = []
    for item in (volumes, volumes.flip(2)) if mirror else (volumes,):
        if average_heads == "none":
            outputs.append(model(item))
        else:
            heads = [head for head in model.block_outputs(item) if head is not None]
            outputs += [head.mean(dim=1) for head in heads]
    return outputs


def read_ages(target: Target, outputs: Tensor, point: Point) -> Tensor:
    """Read predicted ages in years (B,) out of outputs (B, C)."""
    if isinstance(target, Ages) and point == "median":
        return target.median(outputs)
    return target.predict(outputs)


def _read(target: Target, outputs: Tensor, point: Point) -> AgeDistribution:
    ages = read_ages(target, outputs.cpu(), point).double().numpy()
    if not isinstance(target, Ages):
        return AgeDistribution(ages, np.zeros_like(ages))
    return AgeDistribution(ages, target.spread(outputs).cpu().double().numpy())


def _batches(model: BlockStack, arrays: HalfArray, batch_size: int) -> Iterator[Tensor]:
    """Batches (B, 1, I, J, K) on the model's device, the model in evaluation mode meanwhile."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(arrays), batch_size):
            batch = np.ascontiguousarray(arrays[start : start + batch_size], dtype=np.float32)
            yield torch.from_numpy(batch)[:, None].to(device)
    finally:
        model.train(was_training)
