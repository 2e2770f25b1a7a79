"""Convolve and pool whole volumes in little memory: slab by slab, without the unpooled maps.

What `usc_cnn3d` does faster than plain torch modules on a CPU; the numbers are those of plain
modules but for rounding.
"""

from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from brainage.networks._winograd import convolve_winograd, gains


class PooledStage(nn.Sequential):
    """Convolution, pooling, ReLU, then the rest; the first three slab by slab if asked.

    The paper's ReLU stands before the pooling. The greatest of rectified values is the rectified
    greatest value, so that the order here gives the same result and the same gradient, on an
    eighth of the voxels; likewise the convolution's bias, which moves all maxima alike, is added
    after the pooling. What the pooling would leave over is not computed.

    The maps before the first stage's pooling are most of what the network computes, and the
    gradient needs none of their values, only the places of the maxima. So they are not kept; with
    `slabs` > 1 one slab of the first axis is made after the other, and there is never more of them
    in memory than that, forward or backward. The result is the same but for rounding.

    Parameters
    ----------
    modules : torch.nn.Module
        Valid convolution of stride 1, max-pooling by 2, ReLU, and what follows.
    slabs : int
        1: all at once.
    winograd : bool
        With fewer multiplications, where a CPU gains by it.
    """

    def __init__(self, *modules: nn.Module, slabs: int = 1, winograd: bool = False) -> None:
        super().__init__(*modules)
        self.slabs, self.winograd = slabs, winograd

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, C, I', J', K') from (B, C, I, J, K)."""
        convolution = self[0]
        assert isinstance(convolution, nn.Conv3d)
        reach = convolution.kernel_size[0] - 1
        kept = [slice((n - reach) // 2 * 2 + reach) for n in inputs.shape[2:]]
        inputs = inputs[:, :, kept[0], kept[1], kept[2]]
        if self.slabs == 1 or not torch.is_grad_enabled():
            features = self._pooled(inputs)
        else:
            rows = (inputs.shape[2] - reach) // 2
            marks = [rows * n // self.slabs for n in range(self.slabs + 1)]
            pooled = [
                self._pooled(inputs[:, :, 2 * a : 2 * b + reach])
                for a, b in pairwise(marks)
                if b > a
            ]
            features = torch.cat(pooled, dim=2)
        for module in list(self)[3:]:
            features = module(features)
            if features.requires_grad:  # batch normalisation is slow where the two orders differ
                features.register_hook(partial(_ordered_like, features.stride()))
        return features

    def _pooled(self, slab: Tensor) -> Tensor:
        convolution = self[0]
        assert isinstance(convolution, nn.Conv3d) and convolution.bias is not None
        convolve = convolve_winograd if self.winograd and gains(slab, convolution) else _convolve
        pooled = self[1](convolve(slab, convolution.weight))
        bias = convolution.bias[:, None, None, None].to(pooled.dtype)
        features: Tensor = self[2](pooled + bias)
        return features


def _ordered_like(strides: tuple[int, ...], gradient: Tensor) -> Tensor:
    """Lay a gradient out in memory as the features that it belongs to."""
    if gradient.stride() == strides:
        return gradient
    return gradient.new_empty_strided(gradient.shape, strides).copy_(gradient)


def _convolve(inputs: Tensor, weight: Tensor) -> Tensor:
    """Convolve; on a CPU with channels beside each other, so that pooling is vectorised.

    One channel has no such order, and oneDNN would choose the other one. So the planes that a
    plane of the result sees become its channels, and a 2D convolution makes it from them.
    """
    if inputs.device.type != "cpu" or torch.compiler.is_exporting():
        return functional.conv3d(inputs, weight)
    if inputs.shape[1] > 1:
        order = torch.channels_last_3d
        weight = weight.contiguous(memory_format=order)
        return functional.conv3d(inputs.contiguous(memory_format=order), weight)
    planes = inputs[:, 0].unfold(1, weight.shape[2], 1).contiguous()  # (B, I', J, K, kernel)
    maps = functional.conv2d(
        planes.movedim(-1, 2).flatten(0, 1),
        weight[:, 0].contiguous(memory_format=torch.channels_last),
    )
    return maps.unflatten(0, planes.shape[:2]).movedim(2, 1)


class PoolByTwo(nn.Module):
    """Max-pooling by 2 that keeps the places of the maxima; torch's own keeps all values too."""

    def forward(self, values: Tensor) -> Tensor:
        """Maxima (B, C, I // 2, J // 2, K // 2) of values (B, C, I, J, K)."""
        if torch.compiler.is_exporting():
            return functional.max_pool3d(values, 2)
        return cast(Tensor, _PoolByTwo.apply(values))


class _PoolByTwo(Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        pooled, places = functional.max_pool3d_with_indices(values, (2, 2, 2))
        context.save_for_backward(places)
        context.size, context.stride = values.shape, values.stride()
        return pooled

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (places,) = context.saved_tensors
        # Of these values the gradient reads size and order alone.
        values = gradient.new_empty_strided(context.size, context.stride)
        gradient = _ordered_like(places.stride(), gradient)
        spread = torch.ops.aten.max_pool3d_with_indices_backward
        result: Tensor = spread(gradient, values, [2] * 3, [2] * 3, [0] * 3, [1] * 3, False, places)
        return result


class UniformDropout(nn.Dropout):
    """Dropout by uniform numbers; on a CPU torch's own bits take twice as long."""

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape, in training with a share of zeros and the rest scaled up."""
        if values.device.type != "cpu" or not self.training or not 0 < self.p < 1:
            return super().forward(values)
        kept = torch.rand_like(values, dtype=torch.float32) >= self.p
        return values * (kept.to(values.dtype) / (1 - self.p))
