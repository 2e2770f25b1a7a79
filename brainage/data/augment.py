"""Random flip, placement, bias field and noise of a whole batch at once, on the batch's device.

The distributions are TorchIO's (`RandomFlip`, `RandomAffine`, `RandomBiasField`, `RandomNoise`
with linear interpolation and zero padding), the arithmetic is one call a batch. Parameters are
drawn in one place, from torch's global generator on the CPU, and applied in another.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from brainage.config import AugmentationConfig
from brainage.data.transforms import build_augmentation

_BIAS_COEFFICIENT = 0.5
_BIAS_ORDER = 3


@dataclass(frozen=True)
class Drawn:
    """What happens to each volume of a batch.

    Attributes
    ----------
    flips : torch.Tensor of bool (B,)
        Left and right change places.
    moves : torch.Tensor of bool (B,)
        Whose placement changes.
    matrix : torch.Tensor (B, 3, 3)
        From voxels of the result to voxels of the source, both counted from the centre.
    shift_voxels : torch.Tensor (B, 3)
    bias : torch.Tensor (B, 4, 4, 4)
        Coefficients of the logarithm of the bias field by powers of i, j, k; zeros: none.
    noise_std : torch.Tensor (B,)
        0: none.
    """

    flips: Tensor
    moves: Tensor
    matrix: Tensor
    shift_voxels: Tensor
    bias: Tensor
    noise_std: Tensor


def draw(config: AugmentationConfig, count: int, spacing_mm: float) -> Drawn:
    """Draw the parameters of `count` volumes whose voxels have an edge of `spacing_mm`."""
    can_move = max(config.max_rotation_degrees, config.max_scale, config.max_shift_mm) > 0
    angles = _uniform((count, 3)) * math.radians(config.max_rotation_degrees)
    scales = 1 + _uniform((count, 3)) * config.max_scale
    shift = _uniform((count, 3)) * config.max_shift_mm / spacing_mm
    edge = _BIAS_ORDER + 1
    powers = torch.arange(edge)
    is_low = powers[:, None, None] + powers[:, None] + powers <= _BIAS_ORDER
    bias = _uniform((count, edge, edge, edge)) * _BIAS_COEFFICIENT * is_low
    noise = torch.rand(count) * config.max_noise_std
    return Drawn(
        flips=_happens(config.flip_probability, count),
        moves=_happens(config.affine_probability, count) & can_move,
        matrix=_rotations(angles) / scales[:, None, :],
        shift_voxels=shift,
        bias=bias * _happens(config.bias_probability, count)[:, None, None, None],
        noise_std=noise * _happens(config.noise_probability, count),
    )


def apply(volumes: Tensor, drawn: Drawn) -> Tensor:
    """Change a batch as drawn: float32 (B, 1, I, J, K) to a new tensor; background stays 0."""
    changed = volumes.clone()
    if bool(drawn.flips.any()):
        # Axis 0 of RAS+ volumes is left-right: the only direction in which brains are symmetric.
        for number in drawn.flips.nonzero().flatten().tolist():
            changed[number] = volumes[number].flip(1)
    if bool(drawn.moves.any()):
        moves = drawn.moves.to(volumes.device)
        matrix, shift = drawn.matrix[drawn.moves], drawn.shift_voxels[drawn.moves]
        changed[moves] = _place(changed[moves], matrix, shift)
    biased = drawn.bias.flatten(1).any(dim=1)
    if bool(biased.any()):
        chosen = biased.to(volumes.device)
        changed[chosen] *= bias_field(drawn.bias[biased].to(volumes.device), changed.shape[2:])
    noisy = drawn.noise_std > 0
    if bool(noisy.any()):
        chosen, std = noisy.to(volumes.device), drawn.noise_std[noisy].to(volumes.device)
        quiet = changed[chosen]
        noise = torch.randn(quiet.shape, device=quiet.device) * std[:, None, None, None, None]
        # The prepared background is 0 on every scan; noise there would betray training.
        changed[chosen] = quiet + noise * (quiet != 0)
    return changed


def build_batch_augmentation(
    config: AugmentationConfig, spacing_mm: float
) -> Callable[[Tensor], Tensor] | None:
    """From a batch of float32 (B, 1, I, J, K) to a new one; None when all is off.

    Blur and motion have no batch form here: where they are on, TorchIO adds them scan by scan.
    """
    off = {"flip_probability": 0.0, "affine_probability": 0.0}
    off |= {"bias_probability": 0.0, "noise_probability": 0.0}
    slow = build_augmentation(config.model_copy(update=off), spacing_mm)
    used = (getattr(config, name) for name in off)
    if not any(used):
        return None if slow is None else lambda volumes: torch.stack([slow(v) for v in volumes])

    def augment(volumes: Tensor) -> Tensor:
        changed = apply(volumes, draw(config, len(volumes), spacing_mm))
        return changed if slow is None else torch.stack([slow(volume) for volume in changed])

    return augment


def bias_field(coefficients: Tensor, size: torch.Size) -> Tensor:
    """Fields (B, 1, I, J, K): the exponential of a polynomial over [-1, 1]³, axis by axis."""
    field = coefficients
    for length in size:
        line = torch.linspace(-1, 1, length, device=field.device)
        powers = torch.stack([line**n for n in range(coefficients.shape[1])])
        # The axis in front is used up, the new one goes to the end.
        field = torch.tensordot(field, powers, dims=([1], [0]))
    return field.exp()[:, None]


def _place(volumes: Tensor, matrix: Tensor, shift_voxels: Tensor) -> Tensor:
    half = (torch.tensor(volumes.shape[2:], dtype=torch.float32) - 1) / 2
    # grid_sample counts from -1 to 1 and names the last axis first.
    scaled = matrix * half[None, None, :] / half[None, :, None]
    theta = torch.cat([scaled.flip(1, 2), (shift_voxels / half).flip(1)[:, :, None]], dim=2)
    grid = _grid(theta.to(volumes.device), volumes.shape[2:])
    return functional.grid_sample(volumes, grid, align_corners=True)


def _grid(theta: Tensor, size: torch.Size) -> Tensor:
    """`affine_grid` of (B, 3, 4) in two sums instead of a product a voxel: (B, I, J, K, 3)."""
    lines = [torch.linspace(-1, 1, length, device=theta.device) for length in size]
    # The columns of theta belong to k, j, i and the shift.
    along_i = theta[:, :, 2, None] * lines[0] + theta[:, :, 3, None]
    along_j, along_k = theta[:, :, 1, None] * lines[1], theta[:, :, 0, None] * lines[2]
    plane = along_i[:, :, :, None] + along_j[:, :, None, :]
    grid = plane[..., None] + along_k[:, :, None, None, :]
    return grid.permute(0, 2, 3, 4, 1)


def _rotations(angles: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) about i, then j, then k from angles (B, 3) in radians."""
    result = torch.eye(3).expand(len(angles), 3, 3)
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        cosine, sine = angles[:, axis].cos(), angles[:, axis].sin()
        turn[:, one, one], turn[:, other, other] = cosine, cosine
        turn[:, one, other], turn[:, other, one] = -sine, sine
        result = turn @ result
    return result


def _uniform(shape: tuple[int, ...]) -> Tensor:
    return 2 * torch.rand(shape) - 1


def _happens(probability: float, count: int) -> Tensor:
    return torch.rand(count) < probability
