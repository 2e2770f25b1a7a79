"""Named regions of the network's grid, from what nilearn carries offline.

No parcellation ships with nilearn, only coordinates: those of Dosenbach et al. 2010
(doi:10.1126/science.1194144) with anatomical names, and those of Seitzman et al. 2020
(doi:10.1016/j.neuroimage.2019.116290) for hippocampus, amygdala, basal ganglia, thalamus and
cerebellum. A grey voxel belongs to the region of its nearest coordinate; white matter and fluid
come from the template's tissue maps, fluid deeper than 25 mm being ventricle. These are
neighbourhoods, not traced borders: good for "temporal or frontal", not for subfields.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.priors import load_tissue_maps
from brainage.types import DoubleArray

VENTRICLE_DEPTH_MM = 25.0
OUTSIDE = "outside the brain"

# First match names the lobe of a Dosenbach coordinate.
_LOBES = (
    ("cerebellum", "cerebellum"),
    ("thalamus", "thalamus"),
    ("basal ganglia", "basal ganglia"),
    ("insula", "insula"),
    ("cingulate|ACC", "cingulate"),
    ("occipital", "occipital"),
    ("parietal|IPL|IPS|angular|precuneus", "parietal"),
    ("temporal|fusiform|TPJ", "temporal"),
    ("frontal|PFC|FC|SMA|precentral", "frontal"),
)
_SEITZMAN = {
    "hippocampus": "medial temporal",
    "amygdala": "medial temporal",
    "basalGanglia": "basal ganglia",
    "thalamus": "thalamus",
    "cerebellum": "cerebellum",
}


@dataclass(frozen=True)
class Regions:
    """Which region each voxel of the grid belongs to.

    Attributes
    ----------
    labels : numpy.ndarray of int64 (I, J, K)
        Position in `names`.
    names : tuple of str
        The first is `OUTSIDE`.
    """

    labels: NDArray[np.int64]
    names: tuple[str, ...]


@lru_cache(maxsize=4)
def load_regions(settings: PreprocessingConfig) -> Regions:
    """Load the regions of the network's grid: lobes, deep nuclei, white matter and fluid.

    Kept for the next scan; the labels cannot be written to.
    """
    grey, white, fluid = load_tissue_maps(settings)
    inside = grey + white + fluid > 0
    depth_mm = ndimage.distance_transform_edt(inside) * settings.spacing_mm
    index = np.indices(settings.shape).reshape(3, -1)
    affine = grid_affine(settings)
    world = (affine[:3, :3] @ index).T + affine[:3, 3]
    seeds, seed_names = _load_seeds()
    nearest = np.asarray(spatial.KDTree(seeds).query(world)[1])
    sides = np.where(world[:, 0] < 0, "left", "right")
    cortex = [f"{side} {seed_names[n]}" for side, n in zip(sides, nearest, strict=True)]
    named = np.array(cortex, dtype=object).reshape(settings.shape)
    named[white > np.maximum(grey, fluid)] = "white matter"
    is_fluid = fluid > np.maximum(grey, white)
    named[is_fluid] = "sulcal fluid"
    named[is_fluid & (depth_mm > VENTRICLE_DEPTH_MM)] = "ventricles"
    named[~inside] = OUTSIDE
    names = (OUTSIDE, *sorted(set(named.ravel()) - {OUTSIDE}))
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers[name] for name in named.ravel()], dtype=np.int64)
    labels = labels.reshape(settings.shape)
    labels.flags.writeable = False
    return Regions(labels, names)


def _load_seeds() -> tuple[DoubleArray, list[str]]:
    """Return coordinates (N, 3) in MNI mm and the name of each."""
    # Takes seconds to import.
    from nilearn.datasets import fetch_coords_dosenbach_2010, fetch_coords_seitzman_2018

    coordinates, names = [], []
    dosenbach = fetch_coords_dosenbach_2010()
    for row, label in zip(dosenbach.rois.itertuples(index=False), dosenbach.labels, strict=True):
        coordinates.append([row.x, row.y, row.z])
        names.append(next(lobe for pattern, lobe in _LOBES if re.search(pattern, label)))
    seitzman = fetch_coords_seitzman_2018(ordered_regions=False)
    for row, region in zip(seitzman.rois.itertuples(index=False), seitzman.regions, strict=True):
        # Its cortical coordinates have no lobe; those of Dosenbach do.
        if region in _SEITZMAN:
            coordinates.append([row.x, row.y, row.z])
            names.append(_SEITZMAN[region])
    return np.array(coordinates, dtype=np.float64), names
