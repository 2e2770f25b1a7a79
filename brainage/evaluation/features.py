"""Features of prepared scans for simple models: averaged voxels, and tissue volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from brainage.errors import ShapeError
from brainage.mixture import share_tissue
from brainage.types import BoolArray, DoubleArray, FloatArray, HalfArray

Scans = Sequence[HalfArray] | HalfArray


@dataclass(frozen=True)
class TissuePriors:
    """Share of each tissue in each voxel of the network's grid, from the template.

    Attributes
    ----------
    grey, white, fluid : numpy.ndarray of float32 (I, J, K)
        They sum to 1 inside the template's brain and to 0 outside.
    spacing_mm : float
        Edge of a voxel.
    """

    grey: FloatArray
    white: FloatArray
    fluid: FloatArray
    spacing_mm: float


@dataclass(frozen=True)
class VoxelGrid:
    """How scans become rows of voxels.

    Attributes
    ----------
    shape : tuple of int (3,)
        Voxels (I, J, K) of the arrays.
    pool : int
        Edge of the cubes of voxels that are averaged into one feature.
    mask : numpy.ndarray of bool (F,)
        Features that vary between the scans it was made for.
    """

    shape: tuple[int, ...]
    pool: int
    mask: BoolArray

    def features(self, arrays: Scans) -> FloatArray:
        """Return features (N, F) of N prepared scans.

        Raises
        ------
        ShapeError
            If a scan has another grid.
        """
        features = np.empty((len(arrays), int(self.mask.sum())), dtype=np.float32)
        for index in range(len(arrays)):
            features[index] = pool_voxels(arrays[index], self.shape, self.pool)[self.mask]
        return features


def fit_grid(arrays: Scans, max_features: int) -> VoxelGrid:
    """Average cubes of 1, 2, 3, … voxels until few enough features remain; drop constant ones."""
    shape = tuple(arrays[0].shape)
    edge = 1
    while prod(ceil(side / edge) for side in shape) > max_features:
        edge += 1
    first = pool_voxels(arrays[0], shape, edge)
    varying = np.zeros(first.size, dtype=bool)
    for index in range(1, len(arrays)):
        varying |= pool_voxels(arrays[index], shape, edge) != first
    return VoxelGrid(shape, edge, varying)


def pool_voxels(array: HalfArray, shape: tuple[int, ...], edge: int) -> FloatArray:
    """Average cubes of `edge` voxels: (I, J, K) to (F,).

    Raises
    ------
    ShapeError
        If the scan has another shape.
    """
    if array.shape != shape:
        raise ShapeError("linear baseline", f"expected a scan of shape {shape}, got {array.shape}.")
    voxels = np.asarray(array, dtype=np.float32)
    if edge == 1:
        return voxels.ravel()
    voxels = np.pad(voxels, [(0, -side % edge) for side in shape])
    i, j, k = (side // edge for side in voxels.shape)
    pooled: FloatArray = voxels.reshape(i, edge, j, edge, k, edge).mean(axis=(1, 3, 5))
    return pooled.ravel()


def tissue_volumes(arrays: Scans, priors: TissuePriors) -> DoubleArray:
    """Compute volumes of grey matter, white matter and fluid in litres, (N, 3).

    From the mixture of `brainage.mixture`, fitted to each scan. No age enters.

    Raises
    ------
    ShapeError
        If a scan has another grid than the priors.
    """
    maps = np.stack([priors.grey, priors.white, priors.fluid]).astype(np.float64)
    litres = priors.spacing_mm**3 / 1e6
    volumes = np.empty((len(arrays), 3))
    for index in range(len(arrays)):
        array = np.asarray(arrays[index], dtype=np.float64)
        if array.shape != priors.grey.shape:
            raise ShapeError(
                "tissue volumes", f"expected shape {priors.grey.shape}, got {array.shape}."
            )
        brain = (array != 0) & (maps.sum(axis=0) > 0)
        _, shares = share_tissue(array[brain], maps[:, brain])
        volumes[index] = shares.sum(axis=1) * litres
    return volumes
