"""Affine resampling of volumes: trilinear in one pass, or in two passes by planes, which is fast.

torch's `grid_sample` is vectorised on a CPU for planes and not for volumes. So an affine map is
taken apart (Catmull and Smith 1980, doi 10.1145/965105.807505): first every plane across axis j
is resampled within itself, then every line along j.
"""

import torch
from torch import Tensor
from torch.nn import functional

STEEPEST = 0.5
"""Shear (voxels a voxel) above which one pass is taken: about 26 degrees."""


def resample(volume: Tensor, matrix: Tensor, shift_voxels: Tensor) -> Tensor:
    """Move a volume by an affine map; 0 beyond its edge.

    Parameters
    ----------
    volume : torch.Tensor of float (I, J, K)
    matrix : torch.Tensor (3, 3)
        On the CPU; from voxels of the result to voxels of the source, counted from the centre.
    shift_voxels : torch.Tensor (3,)
        On the CPU.

    Returns
    -------
    torch.Tensor of float (I, J, K)
        A new tensor. Linear between voxels either way; the second pass interpolates along the
        sheared line instead of the axis, which differs in the second derivatives only.
    """
    across = torch.cat([matrix[1, [0, 2]], matrix[[0, 2], 1]]).abs().max()
    if volume.is_cuda or bool(across > STEEPEST * matrix[1, 1]):
        return resample_at_once(volume, matrix, shift_voxels)
    return resample_by_planes(volume, matrix, shift_voxels)


def resample_by_planes(volume: Tensor, matrix: Tensor, shift_voxels: Tensor) -> Tensor:
    """Run the two passes of `resample`; the matrix's element (1, 1) must not be near 0."""
    (i, j, k), half = _centred(volume.shape)
    # In the source's plane j: solve the middle row for the result's j, and put that in.
    rows = torch.tensor([2, 0])  # grid_sample names the last axis first
    slope = matrix[rows, 1] / matrix[1, 1]
    inner = matrix[rows] - slope[:, None] * matrix[1]
    offset = shift_voxels[rows] - slope * shift_voxels[1]
    inner, offset, slope = (
        part / half[rows].reshape(-1, *[1] * (part.ndim - 1)) for part in (inner, offset, slope)
    )
    plane = inner[:, 0, None, None] * i[:, None] + inner[:, 2, None, None] * k
    grid = plane + (slope * j[:, None] + offset)[:, :, None, None]  # (J, 2, I, K)
    moved = _sample(volume.transpose(0, 1)[:, None], grid)[:, 0]
    # Along j: every (j, k) plane of the result, whose k stays.
    middle, start = matrix[1] / half[1], shift_voxels[1] / half[1]
    grid = torch.empty(len(i), 2, len(j), len(k), dtype=volume.dtype)
    grid[:, 0] = k / half[2]
    plane = middle[1] * j[:, None] + middle[2] * k + start
    torch.add(plane, (middle[0] * i)[:, None, None], out=grid[:, 1])
    return _sample(moved.transpose(0, 1)[:, None], grid)[:, 0]


def resample_at_once(volume: Tensor, matrix: Tensor, shift_voxels: Tensor) -> Tensor:
    """Trilinear, on any device and for any matrix."""
    (i, j, k), half = _centred(volume.shape)
    i, j, k = (line.to(volume.device) for line in (i, j, k))
    scaled = (matrix / half[:, None]).flip(0).to(volume.device)[:, :, None, None, None]
    start = (shift_voxels / half).flip(0).to(volume.device)[:, None, None, None]
    place = scaled[:, 0] * i[:, None, None] + scaled[:, 1] * j[:, None]
    grid = (place + scaled[:, 2] * k + start).permute(1, 2, 3, 0)[None]
    return functional.grid_sample(volume[None, None], grid, align_corners=True)[0, 0]


def _sample(planes: Tensor, grid: Tensor) -> Tensor:
    """Of (N, 1, H, W) at coordinates (N, 2, H', W')."""
    return functional.grid_sample(planes, grid.permute(0, 2, 3, 1), align_corners=True)


def _centred(shape: torch.Size) -> tuple[list[Tensor], Tensor]:
    """Voxels along each axis counted from the centre, and the largest of each."""
    half = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    return [torch.arange(size) - edge for size, edge in zip(shape, half, strict=True)], half
