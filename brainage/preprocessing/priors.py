"""The template's tissue maps on the network's grid."""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_shares, load_template
from brainage.types import DoubleArray, FloatArray


@lru_cache(maxsize=4)
def load_tissue_maps(settings: PreprocessingConfig) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share of grey matter, white matter and fluid in each voxel of the network's grid.

    Kept for the next scan of the same grid: a cohort would otherwise spend half a second a scan
    here. The arrays cannot be written to.

    From the maps of the MNI ICBM152 template (Fonov et al. 2011,
    doi:10.1016/j.neuroimage.2010.07.033) that the package carries; fluid is the rest of the brain
    mask.

    Returns
    -------
    tuple of numpy.ndarray of float32, each of the settings' shape
        They sum to 1 inside the template's brain and to 0 outside.
    """
    template = load_template(TISSUE_SPACING_MM)
    white_share, grey_share = load_shares()
    sources = (template.mask.astype(np.float32), grey_share, white_share)
    inside, *maps = (_onto_grid(source, template.affine, settings) for source in sources)
    mask = inside >= 0.5
    grey, white = (np.where(mask, tissue.clip(0, 1), 0) for tissue in maps)
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    fluid = np.where(mask, 1 - grey - white, 0)
    shares = tuple(share.astype(np.float32) for share in (grey, white, fluid))
    for share in shares:
        share.flags.writeable = False
    return shares[0], shares[1], shares[2]


def _onto_grid(data: FloatArray, affine: DoubleArray, settings: PreprocessingConfig) -> FloatArray:
    sigma = max(settings.spacing_mm / TISSUE_SPACING_MM - 1, 0) / (2 * np.sqrt(2 * np.log(2)))
    index = np.linalg.inv(affine) @ grid_affine(settings)
    smooth = ndimage.gaussian_filter(data, sigma, mode="constant")
    moved: FloatArray = ndimage.affine_transform(
        smooth, index[:3, :3], index[:3, 3], settings.shape, order=1
    )
    return moved
