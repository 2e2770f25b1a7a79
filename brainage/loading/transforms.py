"""TorchIO's transforms, and nothing else, behind two functions; the only importer of TorchIO."""

from collections.abc import Callable

import numpy as np
import torch
import torchio
from torch import Tensor

from brainage.config import AugmentationConfig

_CONTRAST_STEPS = 6

Augmentation = Callable[[Tensor], Tensor]


def build_augmentation(config: AugmentationConfig, spacing_mm: float) -> Augmentation | None:
    """Chain the random transforms that are switched on.

    Randomness comes from torch's global generator, as TorchIO draws from it. Milliseconds a
    volume of 40 x 48 x 40 on one core: flip 0.7, affine 2.8, noise and
    contrast 1, blur 1.3, motion 8, bias 19.

    Parameters
    ----------
    config : AugmentationConfig
    spacing_mm : float
        Edge of the volumes' voxels in mm.

    Returns
    -------
    callable or None
        From a tensor of float32 (1, I, J, K) to a new contiguous one; None when all is off. The
        background stays 0.
    """
    placement = _build_placement(config, spacing_mm)
    appearance = _build_appearance(config)
    has_contrast = config.contrast_probability > 0 and config.max_contrast > 0
    if not placement and not appearance and not has_contrast:
        return None
    move, change = torchio.Compose(placement), torchio.Compose(appearance)

    def augment(volume: Tensor) -> Tensor:
        moved = move(volume) if placement else volume
        if has_contrast and float(torch.rand(())) < config.contrast_probability:
            moved = change_contrast(moved, torch.randn(_CONTRAST_STEPS) * config.max_contrast)
        # The prepared background is 0 on every scan; noise or ghosts there would betray training.
        changed = change(moved) * (moved != 0) if appearance else moved
        return changed.to(torch.float32).contiguous()

    return augment


def change_contrast(volume: Tensor, log_slopes: Tensor) -> Tensor:
    """Pass intensities through a rising curve of straight pieces; 0 stays 0.

    In T1 scans fluid, grey and white matter are of rising brightness on every scanner, but how far
    apart they lie differs: a random rising curve gives each tissue a brightness of its own.

    Parameters
    ----------
    volume : torch.Tensor (1, I, J, K)
    log_slopes : torch.Tensor (P,)
        Logarithm of the slope of each of P equally wide pieces, before the curve is scaled to
        begin and end where the intensities do.
    """
    inside = volume != 0
    if not inside.any():
        return volume
    values = volume[inside]
    low, high = values.min(), values.max()
    if low == high:
        return volume
    steps = log_slopes.exp().numpy()
    curve = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    share = ((values - low) / (high - low)).numpy()
    bent = np.interp(share, np.linspace(0, 1, len(curve)), curve)
    changed = torch.zeros_like(volume)
    changed[inside] = torch.from_numpy(bent).to(volume.dtype) * (high - low) + low
    return changed


def _build_placement(config: AugmentationConfig, spacing_mm: float) -> list[torchio.Transform]:
    """Flip and affine; turning, scaling and shifting share one interpolation."""
    chain: list[torchio.Transform] = []
    if config.flip_probability > 0:
        # Axis 0 of RAS+ volumes is left-right: the only direction in which brains are symmetric.
        chain.append(torchio.RandomFlip(axes=(0,), flip_probability=config.flip_probability))
    largest = max(config.max_rotation_degrees, config.max_scale, config.max_shift_mm)
    if config.affine_probability > 0 and largest > 0:
        chain.append(
            torchio.RandomAffine(
                scales=config.max_scale,
                degrees=config.max_rotation_degrees,
                # Bare tensors have 1 mm voxels for TorchIO, so a shift counts voxels.
                translation=config.max_shift_mm / spacing_mm,
                default_pad_value=0.0,
                p=config.affine_probability,
            )
        )
    return chain


def _build_appearance(config: AugmentationConfig) -> list[torchio.Transform]:
    chain: list[torchio.Transform] = []
    if config.bias_probability > 0:
        chain.append(torchio.RandomBiasField(p=config.bias_probability))
    if config.noise_probability > 0 and config.max_noise_std > 0:
        std = (0.0, config.max_noise_std)
        chain.append(torchio.RandomNoise(std=std, p=config.noise_probability))
    if config.blur_probability > 0:
        chain.append(torchio.RandomBlur(std=(0.0, 1.0), p=config.blur_probability))
    if config.motion_probability > 0:
        # Translations in voxels, as above.
        chain.append(torchio.RandomMotion(translation=2.0, p=config.motion_probability))
    return chain
