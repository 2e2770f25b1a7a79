"""Make images that are no T1 scan from one that is, for the tests of the quality gate.

A T1 head with a known brain tells how much fluid, grey and white matter a voxel holds; each other
contrast is a brightness for each of the three, a resolution, noise, and what the scalp looks like.
They are caricatures: real FLAIR, T2, CT and diffusion scans stand beside them in the damage table.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from brainage.preprocessing.locate import Located
from brainage.preprocessing.mni import resample_volume
from brainage.types import BoolArray, FloatArray, Volume

# Widths of Gaussians are given as full width at half maximum.
_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class Contrast:
    """How an image that is no T1 scan shows a head.

    Attributes
    ----------
    tissue : tuple of float (3,)
        Brightness of fluid, grey and white matter.
    scalp : float
        Brightness of what surrounds the brain, as a share of what it has in T1.
    fwhm_mm : float
        Resolution.
    noise : float
        Standard deviation of Rician noise.
    """

    tissue: tuple[float, float, float]
    scalp: float = 0.0
    fwhm_mm: float = 0.0
    noise: float = 0.02


CONTRASTS: dict[str, Contrast] = {
    "T2": Contrast((1.0, 0.5, 0.35), 0.5),
    "proton density": Contrast((0.9, 0.85, 0.65), 0.6),
    "FLAIR": Contrast((0.1, 0.85, 0.65), 0.5),
    "BOLD EPI": Contrast((1.0, 0.6, 0.45), 0.1, fwhm_mm=4.0, noise=0.04),
    "diffusion, b = 1000": Contrast((0.1, 0.55, 0.5), 0.05, fwhm_mm=3.0, noise=0.06),
    "fractional anisotropy": Contrast((0.1, 0.2, 0.6), 0.0, fwhm_mm=2.5, noise=0.1),
    "mean diffusivity": Contrast((1.0, 0.28, 0.24), 0.0, fwhm_mm=2.5, noise=0.04),
    "perfusion (ASL)": Contrast((0.05, 0.8, 0.3), 0.0, fwhm_mm=6.0, noise=0.1),
    "FDG PET": Contrast((0.1, 1.0, 0.35), 0.1, fwhm_mm=7.0, noise=0.03),
    "amyloid PET": Contrast((0.2, 0.45, 0.8), 0.15, fwhm_mm=7.0, noise=0.03),
}


def imitate(name: str, volume: Volume, located: Located, rng: Generator) -> Volume:
    """Imitate another contrast of a T1 head whose brain is known, on the head's own grid."""
    contrast = CONTRASTS[name]
    brain = is_brain(volume, located)
    tissue = share_steps(volume.data, brain)
    shown = np.interp(tissue, (0, 1, 2, 3, 4), (0, *contrast.tissue, contrast.tissue[2]))
    white = float(np.percentile(volume.data[brain], 90))
    data = np.where(brain, shown, contrast.scalp * volume.data.clip(0, 2 * white) / white)
    if contrast.fwhm_mm:
        sigma = contrast.fwhm_mm * _SIGMA_PER_FWHM / np.array(volume.spacing_mm)
        data = ndimage.gaussian_filter(data, sigma)
    real, imaginary = (rng.normal(0, contrast.noise, data.shape) for _ in range(2))
    return Volume((500 * np.hypot(data + real, imaginary)).astype(np.float32), volume.affine)


def is_brain(volume: Volume, located: Located) -> BoolArray:
    """Bring a brain's mask to the grid of its scan."""
    return resample_volume(located.placement.mask, volume.affine, volume.data.shape) >= 0.5


def share_steps(data: FloatArray, brain: BoolArray) -> FloatArray:
    """Bring a T1 brain to fluid 1, grey matter 2 and white matter 3, linear in between.

    Their brightness is taken at the percentiles that halve 20 % of fluid, 45 % of grey matter and
    35 % of white matter.
    """
    knots = np.percentile(data[brain], (0.0, 10.0, 42.0, 82.0, 100.0))
    return np.interp(data, np.maximum.accumulate(knots), (0, 1, 2, 3, 3.5)).astype(np.float32)
