"""Convolve volumes with fewer multiplications: Winograd's algorithm along the first axis.

A valid convolution of width r needs m·r multiplications for m outputs in a row; F(m, r) needs
m + r - 1 (Winograd 1980, doi:10.1137/1.9781611970364; for networks Lavin & Gray 2016, arXiv
1509.09308). The other two axes stay with a 2-D convolution. Results differ from a plain
convolution's by rounding: about 1e-5 of the largest value for F(5, 6).
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

# Where polynomials are evaluated, besides infinity: small numbers, for the least rounding.
_POINTS = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 4 / 3, -3 / 4)
# Planes that are computed together: m.
OUTPUTS = 5


def gains(inputs: Tensor, convolution: nn.Conv3d) -> bool:
    """Tell whether a convolution of (B, C, I, J, K) is faster this way, by its shape.

    It is for large kernels and several channels, on a CPU, where the planes of the result fill
    whole tiles: a first convolution of one channel and a last one of two planes are slower. Half
    precision is not: its rounding would grow with every tile.
    """
    width = convolution.kernel_size[0]
    planes = inputs.shape[2] - width + 1
    large = width == 6 and inputs.shape[1] > 1 and planes >= OUTPUTS
    is_half = inputs.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu")
    on_cpu = inputs.device.type == "cpu" and not torch.compiler.is_exporting()
    return large and on_cpu and not is_half


def convolve_winograd(inputs: Tensor, weight: Tensor, outputs: int = OUTPUTS) -> Tensor:
    """Convolve (B, C, I, J, K) by a weight (O, C, r, s, t), valid, stride 1, as `conv3d` does.

    Parameters
    ----------
    outputs : int
        m, values along the first axis that are computed together.
    """
    reach = weight.shape[2]
    to_outputs, to_kernel, to_inputs = (each.to(inputs) for each in _matrices(outputs, reach))
    rows = inputs.shape[2] - reach + 1
    tiles = -(-rows // outputs)
    # (B, I, J, K, C), a whole number of tiles, of which each sees m + r - 1 planes.
    planes = functional.pad(inputs.permute(0, 2, 3, 4, 1), [0] * 7 + [tiles * outputs - rows])
    tiled = planes.unfold(1, outputs + reach - 1, outputs).movedim(-1, 0).flatten(1, 2)
    changed = torch.tensordot(to_inputs, tiled, 1)  # (m + r - 1, B · tiles, J, K, C)
    kernels = torch.tensordot(to_kernel, weight, ([1], [2]))  # (m + r - 1, O, C, s, t)
    products = [
        functional.conv2d(
            plane.permute(0, 3, 1, 2), kernel.contiguous(memory_format=torch.channels_last)
        ).permute(0, 2, 3, 1)
        for plane, kernel in zip(changed, kernels, strict=True)
    ]
    maps = torch.tensordot(to_outputs, torch.stack(products), 1)  # (m, B · tiles, J', K', O)
    maps = maps.unflatten(1, (-1, tiles)).movedim(0, 2).flatten(1, 2)[:, :rows]
    return maps.permute(0, 4, 1, 2, 3)


@lru_cache
def _matrices(outputs: int, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of F(m, r): to outputs (m, n), of kernels (n, r), of inputs (n, n); n = m + r - 1.

    The transposed Toom-Cook algorithm: polynomials are multiplied at n points.
    """
    count = outputs + reach - 1
    points = torch.tensor(_POINTS[: count - 1], dtype=torch.float64)

    def evaluate(width: int) -> Tensor:
        powers = torch.linalg.vander(points, N=width)
        return torch.cat([powers, torch.eye(width, dtype=torch.float64)[-1:]])

    return evaluate(outputs).T, evaluate(reach), torch.linalg.inv(evaluate(count)).T
