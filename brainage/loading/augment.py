"""Random flip, placement, bias field and noise of a batch, on the batch's device.

The distributions are TorchIO's (`RandomFlip`, `RandomAffine`, `RandomBiasField`, `RandomNoise`
with linear interpolation and zero padding). Parameters are drawn in one place, from torch's global
generator on the CPU, and applied in another, volume by volume, so that one stays in the cache.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from brainage.config import AugmentationConfig
from brainage.loading.resample import resample
from brainage.loading.transforms import build_augmentation

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
    """Change a batch as drawn; background stays 0.

    Parameters
    ----------
    volumes : torch.Tensor of float16 or float32 (B, 1, I, J, K)

    Returns
    -------
    torch.Tensor of float32
        A new one.
    """
    changed = torch.empty_like(volumes, dtype=torch.float32)
    biased = drawn.bias.flatten(1).any(dim=1)
    for number, (volume, result) in enumerate(zip(volumes[:, 0], changed[:, 0], strict=True)):
        # Axis 0 of RAS+ volumes is left-right: the only direction in which brains are symmetric.
        source = volume.flip(0) if drawn.flips[number] else volume
        if drawn.moves[number]:
            source = resample(source.float(), drawn.matrix[number], drawn.shift_voxels[number])
        result.copy_(source)
        if biased[number]:
            result *= bias_field(drawn.bias[number].to(result.device), result.shape)
        if drawn.noise_std[number] > 0:
            # The prepared background is 0 on every scan; noise there would betray training.
            inside = torch.ne(result, 0, out=torch.empty_like(result))
            noise = draw_noise(result).mul_(inside)
            result.add_(noise, alpha=float(drawn.noise_std[number]))
    return changed


def draw_noise(like: Tensor) -> Tensor:
    """Return standard normal numbers in the shape of a float32 tensor.

    On a CPU they are 65 536 quantiles of the normal distribution in random order: half of the time
    of `torch.randn`, most of it shared among threads, and the same numbers for any number of them.
    The seed is drawn from torch's global generator.
    """
    if like.is_cuda:
        return torch.randn_like(like)
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw(-(-like.numel() // 4)).view(np.int16)
    quantiles = torch.from_numpy(words)[: like.numel()].float().add_(0.5).div_(2**15)
    return torch.erfinv(quantiles, out=quantiles).mul_(math.sqrt(2)).view(like.shape)


def build_batch_augmentation(
    config: AugmentationConfig, spacing_mm: float
) -> Callable[[Tensor], Tensor] | None:
    """From float16 or float32 (B, 1, I, J, K) to a new batch of float32; None when all is off.

    Blur and motion have no batch form here: where they are on, TorchIO adds them scan by scan.
    """
    off = {"flip_probability": 0.0, "affine_probability": 0.0}
    off |= {"bias_probability": 0.0, "noise_probability": 0.0}
    slow = build_augmentation(config.model_copy(update=off), spacing_mm)
    used = (getattr(config, name) for name in off)
    if not any(used):
        return None if slow is None else lambda batch: torch.stack([slow(v.float()) for v in batch])

    def augment(volumes: Tensor) -> Tensor:
        changed = apply(volumes, draw(config, len(volumes), spacing_mm))
        return changed if slow is None else torch.stack([slow(volume) for volume in changed])

    return augment


def bias_field(coefficients: Tensor, size: torch.Size) -> Tensor:
    """Build a field (I, J, K): the exponential of a polynomial over [-1, 1]³."""
    field = coefficients
    for length in size:
        line = torch.linspace(-1, 1, length, device=field.device)
        powers = torch.stack([line**n for n in range(coefficients.shape[0])])
        # The axis in front is used up, the new one goes to the end.
        field = torch.tensordot(field, powers, dims=([0], [0]))
    return field.exp_()


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
