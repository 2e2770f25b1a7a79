"""The template's tissue maps on the network's grid."""

from functools import lru_cache

import numpy as np
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_wm_template,
)
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import grid_affine
from brainage.types import DoubleArray, FloatArray

_SOURCE_MM = 2


@lru_cache(maxsize=4)
def load_tissue_maps(settings: PreprocessingConfig) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share of grey matter, white matter and fluid in each voxel of the network's grid.

    Kept for the next scan of the same grid: a cohort would otherwise spend half a second a scan
    here. The arrays cannot be written to.

    From the maps of the MNI ICBM152 template (Fonov et al. 2011,
    doi:10.1016/j.neuroimage.2010.07.033) that nilearn carries; fluid is the rest of the brain mask.

    Returns
    -------
    tuple of numpy.ndarray of float32, each of the settings' shape
        They sum to 1 inside the template's brain and to 0 outside.
    """
    sources, affine = _load_sources()
    inside, *maps = (_onto_grid(source, affine, settings) for source in sources)
    mask = inside >= 0.5
    grey, white = (np.where(mask, tissue.clip(0, 1), 0) for tissue in maps)
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    fluid = np.where(mask, 1 - grey - white, 0)
    shares = tuple(share.astype(np.float32) for share in (grey, white, fluid))
    for share in shares:
        share.flags.writeable = False
    return shares[0], shares[1], shares[2]


@lru_cache(maxsize=1)
def _load_sources() -> tuple[tuple[FloatArray, FloatArray, FloatArray], DoubleArray]:
    """Brain, grey and white matter at 2 mm, and their affine: nilearn takes two seconds anew."""
    image = load_mni152_brain_mask(resolution=_SOURCE_MM)
    grey, white = (
        load(resolution=_SOURCE_MM).get_fdata(dtype=np.float32)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    return (np.asarray(image.dataobj, np.float32), grey, white), image.affine


def _onto_grid(data: FloatArray, affine: DoubleArray, settings: PreprocessingConfig) -> FloatArray:
    sigma = max(settings.spacing_mm / _SOURCE_MM - 1, 0) / (2 * np.sqrt(2 * np.log(2)))
    index = np.linalg.inv(affine) @ grid_affine(settings)
    smooth = ndimage.gaussian_filter(data, sigma, mode="constant")
    moved: FloatArray = ndimage.affine_transform(
        smooth, index[:3, :3], index[:3, 3], settings.shape, order=1
    )
    return moved
