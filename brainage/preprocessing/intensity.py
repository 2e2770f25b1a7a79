"""Intensity normalisation across scanners: tissue contrast, and local contrast.

A network that is trained on one scanner's brightness fails on another's. Both functions take only
the scan itself and the template's tissue maps, so that no site has to be known beforehand; their
arithmetic is `brainage.preprocessing.contrast`.
"""

from functools import partial

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.contrast import LOCAL_MM, Priors, local_contrast, tissue_levels
from brainage.preprocessing.inner import load_inner_weight
from brainage.preprocessing.priors import load_tissue_maps
from brainage.types import BoolArray, FloatArray


def load_priors(settings: PreprocessingConfig) -> Priors:
    """Load what the template says of the network's grid."""
    inner = None if settings.inner_depth_mm is None else load_inner_weight(settings)
    return Priors(
        np.stack(load_tissue_maps(settings)).astype(np.float64),
        inner,
        partial(ndimage.gaussian_filter, sigma=LOCAL_MM / settings.spacing_mm),
    )


def normalise_tissue(
    data: FloatArray, mask: BoolArray, settings: PreprocessingConfig, where: str
) -> FloatArray:
    """Map the means of fluid, grey and white matter to 1, 2 and 3: see `tissue_levels`."""
    return tissue_levels(data, mask, load_priors(settings), where)


def normalise_local(
    data: FloatArray, mask: BoolArray, settings: PreprocessingConfig, where: str
) -> FloatArray:
    """Divide the contrast to a neighbourhood by its deviation: see `local_contrast`."""
    return local_contrast(data, mask, load_priors(settings), where)


def tissue_patterns(settings: PreprocessingConfig) -> FloatArray:
    """Show where a prepared scan brightens if one tissue does, from the template's maps.

    Of `local` intensities it is the contrast to the neighbourhood.

    Returns
    -------
    numpy.ndarray of float32 (3, I, J, K)
        Grey matter, white matter and fluid; mean square 1 where the scan is not 0.
    """
    priors = load_priors(settings)
    maps = priors.maps
    weight = priors.weigh(maps.sum(axis=0) > 0)
    if settings.intensity == "local":
        mean_around = priors.neighbourhood(weight)
        maps = np.stack([item - mean_around(item) for item in maps])
    maps = maps * weight
    sizes = np.sqrt((maps[:, weight > 0] ** 2).mean(axis=1))
    result: FloatArray = (maps / np.maximum(sizes, 1e-6)[:, None, None, None]).astype(np.float32)
    return result
