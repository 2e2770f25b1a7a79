"""What lies well inside the template's brain, where no brain mask decides what is seen.

Masks of different tools and scanners differ by millimetres, most of all in the fluid around the
brain, and a network that sees their edge reads age from it. The inner brain is that of the
template: the same voxels for every scan.
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template
from brainage.types import FloatArray

FEATHER_MM = 4.0
"""Over this depth the weight rises from 0 to 1."""


@lru_cache(maxsize=4)
def load_inner_weight(settings: PreprocessingConfig) -> FloatArray:
    """Weight of each voxel of the network's grid, from its depth inside the template's brain.

    It is ½ at `inner_depth_mm`, 0 and 1 half a `FEATHER_MM` farther out and in. Kept for the next
    scan; the array cannot be written to.

    Returns
    -------
    numpy.ndarray of float32, of the settings' shape
        0 to 1.
    """
    assert settings.inner_depth_mm is not None
    template = load_template(TISSUE_SPACING_MM)
    depth_mm = (-template.distance_mm).clip(0)
    index = np.linalg.inv(template.affine) @ grid_affine(settings)
    on_grid = ndimage.affine_transform(
        depth_mm, index[:3, :3], index[:3, 3], settings.shape, order=1
    )
    weight = ((on_grid - settings.inner_depth_mm) / FEATHER_MM + 0.5).clip(0, 1)
    result: FloatArray = weight.astype(np.float32)
    result.flags.writeable = False
    return result
