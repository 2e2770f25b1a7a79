"""Volumes of a brain's tissues and ventricles.

A mixture of three Gaussians (`brainage.mixture`) shares the voxels of the brain, at 2 mm in MNI
space, among grey matter, white matter and fluid; ventricles are the fluid around where the
template has them.
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from brainage.mixture import share_tissue
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template, load_tissues
from brainage.types import BoolArray, FloatArray, Volume

TISSUES = ("grey", "white", "fluid")
# Fluid deeper than this is ventricle; it may reach so far beyond, but not so near the surface.
_DEEP_MM, _REACH_MM, _SHALLOW_MM = 25.0, 12.0, 16.0


def measure_volumes(image: Volume, mask: BoolArray) -> dict[str, float]:
    """Measure grey matter, white matter, fluid and ventricles in MNI space, in millilitres.

    Ventricles are a part of the fluid. Volumes of the person's own brain are these over the scale
    of the registration.

    Parameters
    ----------
    image : Volume
        Intensities on a grid in MNI space, bias field removed.
    mask : numpy.ndarray of bool
        Brain on that grid.
    """
    template = load_template(TISSUE_SPACING_MM)
    shape = template.mask.shape
    inside = np.where(mask, image.data, np.float32(0))
    share = resample_volume(Volume(mask.astype(np.float32), image.affine), template.affine, shape)
    data = resample_volume(Volume(inside, image.affine), template.affine, shape)
    brain = share >= 0.5
    values = (data[brain] / share[brain]).astype(np.float64)
    values = (values - values.mean()) / values.std()
    priors, region = load_soft_tissues()
    _, shares = share_tissue(values, priors[:, brain].astype(np.float64))
    voxel_ml = TISSUE_SPACING_MM**3 / 1000
    found = {name: float(part.sum()) * voxel_ml for name, part in zip(TISSUES, shares, strict=True)}
    found["ventricles"] = float(shares[2][region[brain]].sum()) * voxel_ml
    return found


@lru_cache(maxsize=1)
def load_soft_tissues() -> tuple[FloatArray, BoolArray]:
    """Load the template's tissues (3, I, J, K), softened, and where ventricles may be."""
    template = load_template(TISSUE_SPACING_MM)
    white, grey = load_tissues()
    fluid = 1 - white - grey
    depth_mm = -template.distance_mm
    deep = (fluid > 0.5) & (depth_mm > _DEEP_MM)
    reach = ndimage.distance_transform_edt(~deep) * TISSUE_SPACING_MM <= _REACH_MM
    soft = [ndimage.gaussian_filter(part, 1.0) for part in (grey, white, fluid)]
    return np.stack(soft), reach & (depth_mm > _SHALLOW_MM)
