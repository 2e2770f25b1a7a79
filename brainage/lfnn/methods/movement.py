"""LFNN-ℓ with a penalty on how far a block moves its input (TRGL).

Hidden blocks learn from the loss of `lfnn_l` + (1/τ)·‖block(x) − x‖², a mean over elements. Source:
Karkar, Ayed, de Bézenac & Gallinari 2021 (Module-wise training of neural networks via the
minimizing movement scheme, arXiv 2309.17357), for residual blocks. Where a block changes the shape,
x is pooled to its grid and padded with channels of zeros, the parameter-free shortcut of He et al.
2016; features of another kind, such as vectors out of maps, have no distance and no penalty: our
reading.
"""

from torch import Tensor
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.heads._layers import average_cells
from brainage.lfnn.step import (
    StepSettings,
    build_leadership,
    hidden_loss,
    local_rule,
)
from brainage.lfnn.targets import at_least_float32

TAU = 1.0


def movement_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor,
) -> Tensor:
    """Compute the loss of `lfnn_l` plus the block's movement."""
    loss = hidden_loss(stack, block_index, outputs, target_values, settings)
    assert settings.block_input is not None
    return loss + movement(settings.block_input, at_least_float32(features)) / TAU


def movement(block_input: Tensor, features: Tensor) -> Tensor:
    """Mean squared difference of a block's output (B, C, ...) and its input; 0 across kinds."""
    start = block_input.to(features.dtype)
    if start.ndim != features.ndim:
        return features.new_zeros(())
    if start.ndim > 3 and start.shape[2:] != features.shape[2:]:
        start = average_cells(start, tuple(features.shape[2:]))
    if start.ndim == 3 and start.shape[1] != features.shape[1]:
        return features.new_zeros(())
    axis = 2 if start.ndim == 3 else 1
    missing = features.shape[axis] - start.shape[axis]
    if missing > 0:
        start = functional.pad(start, [0, 0] * (start.ndim - 1 - axis) + [0, missing])
    return (features - start.narrow(axis, 0, features.shape[axis])).square().mean()


RULE = local_rule(movement_loss, build_leadership)
