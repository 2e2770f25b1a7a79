"""Out-of-distribution score: how unlike the training scans a scan is, whatever its age.

Three distances, each divided by its median over held-out training scans, are added up. Two live in
the space of the training scans' voxels: Mahalanobis distance along the first principal components
(Hotelling's T²) and the squared residual outside them (Q, or SPE; Jackson & Mudholkar 1979,
doi:10.1080/00401706.1979.10489779). They see another anatomy. The third is the Mahalanobis distance
of `appearance`: histogram and sharpness, which see another scanner even where intensities were
normalised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod

import numpy as np

from brainage.errors import BundleError, CohortError
from brainage.evaluation.features import Scans, VoxelGrid, fit_grid
from brainage.types import BoolArray, DoubleArray, FloatArray

MAX_FEATURES = 12_000
MAX_COMPONENTS = 20
FOLDS = 5
FLAG_PERCENTILE = 99.0
QUANTILES = (2, 10, 25, 50, 75, 90, 98)
_TINY = 1e-6


@dataclass(frozen=True)
class OutOfDistribution:
    """Centre and directions of the training cohort's voxels.

    Attributes
    ----------
    grid : VoxelGrid
        How scans become features.
    mean : numpy.ndarray of float32 (F,)
    components : numpy.ndarray of float32 (P, F)
        Orthonormal principal directions.
    variances : numpy.ndarray of float32 (P,)
    appearance_mean : numpy.ndarray of float32 (14,)
    appearance_precision : numpy.ndarray of float32 (14, 14)
        Inverse covariance of the training scans' appearance.
    scales : numpy.ndarray of float32 (3,)
        Medians of T², Q and the appearance's distance over held-out training scans.
    quantiles : numpy.ndarray of float32 (101,)
        Percentiles 0 to 100 of the held-out distances.
    """

    grid: VoxelGrid
    mean: FloatArray
    components: FloatArray
    variances: FloatArray
    appearance_mean: FloatArray
    appearance_precision: FloatArray
    scales: FloatArray
    quantiles: FloatArray

    def percentile(self, arrays: Scans) -> DoubleArray:
        """Share of held-out training scans that lie nearer, in percent (N,).

        Raises
        ------
        ShapeError
            If a scan has another grid than the training scans.
        """
        if len(arrays) == 0:
            return np.zeros(0)
        voxels = _parts(self.grid.features(arrays), self.mean, self.components, self.variances)
        looks = _mahalanobis(appearance(arrays), self.appearance_mean, self.appearance_precision)
        distance = (np.column_stack([voxels, looks]) / self.scales).sum(axis=1)
        return np.interp(distance, self.quantiles, np.linspace(0, 100, self.quantiles.size))

    def to_bytes(self) -> bytes:
        """Return a safetensors file; directions in float16."""
        from safetensors.numpy import save

        return save(
            {
                "shape": np.array(self.grid.shape),
                "pool": np.array([self.grid.pool]),
                "mask": self.grid.mask.astype(np.uint8),
                "mean": self.mean,
                "components": np.ascontiguousarray(self.components, dtype=np.float16),
                "variances": self.variances,
                "appearance_mean": self.appearance_mean,
                "appearance_precision": self.appearance_precision,
                "scales": self.scales,
                "quantiles": self.quantiles,
            }
        )


def ood_from_bytes(data: bytes) -> OutOfDistribution:
    """Rebuild from a safetensors file.

    Raises
    ------
    BundleError
        If the file is not of this kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        shape = tuple(int(side) for side in tensors["shape"])
        grid = VoxelGrid(shape, int(tensors["pool"][0]), tensors["mask"].astype(bool))
        names = [name.name for name in fields(OutOfDistribution) if name.name != "grid"]
        ood = OutOfDistribution(grid, *(tensors[name].astype(np.float32) for name in names))
    except (SafetensorError, LookupError, ValueError, TypeError, OverflowError) as error:
        raise BundleError("ood.safetensors", "is not readable.") from error
    if not _fits_together(ood):
        raise BundleError("ood.safetensors", "holds arrays that do not fit together.")
    return ood


def _fits_together(ood: OutOfDistribution) -> bool:
    grid, looks = ood.grid, len(QUANTILES) + 7
    if len(grid.shape) != 3 or min(*grid.shape, grid.pool) < 1 or ood.components.ndim != 2:
        return False
    count, features = ood.components.shape
    cells = prod(-(-side // grid.pool) for side in grid.shape)
    return (
        grid.mask.shape == (cells,)
        and int(grid.mask.sum()) == features
        and ood.mean.shape == (features,)
        and ood.variances.shape == (count,)
        and ood.appearance_mean.shape == (looks,)
        and ood.appearance_precision.shape == (looks, looks)
        and ood.scales.shape == (3,)
        and ood.quantiles.shape == (101,)
    )


def fit_ood(arrays: Scans, subject_ids: Sequence[str], seed: int = 0) -> OutOfDistribution:
    """Describe the training scans, and how far held-out ones of them lie.

    Parameters
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K)
        Prepared training scans.
    subject_ids : sequence of str (N,)
        A person's scans are held out together.

    Raises
    ------
    CohortError
        If there are fewer than 4 subjects, or no voxel varies.
    """
    from sklearn.model_selection import GroupKFold

    subjects = np.asarray(subject_ids, dtype=str)
    people = np.unique(subjects).size
    if people < 4:
        raise CohortError("out-of-distribution score", f"needs at least 4 subjects, got {people}.")
    grid = fit_grid(arrays, MAX_FEATURES)
    if not grid.mask.any():
        problem = "no voxel differs between the training scans."
        raise CohortError("out-of-distribution score", problem)
    features = grid.features(arrays)
    # One number of directions for all fits: T² grows with it.
    count = max(1, min(MAX_COMPONENTS, len(features) // 6, features.shape[1]))
    looks = appearance(arrays)
    held = np.empty((len(features), 3))
    folds = GroupKFold(min(FOLDS, people), shuffle=True, random_state=seed)
    for train, test in folds.split(features, groups=subjects):
        held[test, :2] = _parts(features[test], *_fit_pca(features[train], count, seed))
        held[test, 2] = _mahalanobis(looks[test], *_fit_appearance(looks[train]))
    scales = np.maximum(np.median(held, axis=0), 1e-12).astype(np.float32)
    distance = (held / scales).sum(axis=1)
    quantiles = np.percentile(distance, np.linspace(0, 100, 101)).astype(np.float32)
    voxels, looks_fit = _fit_pca(features, count, seed), _fit_appearance(looks)
    return OutOfDistribution(grid, *voxels, *looks_fit, scales, quantiles)


def appearance(arrays: Scans) -> DoubleArray:
    """Compute histogram and sharpness of each scan's brain, (N, 14).

    Seven quantiles of the intensities; along each axis the logarithm of the mean absolute first
    and second difference between neighbouring voxels of the brain; the brain's share of the grid.
    """
    rows = np.zeros((len(arrays), len(QUANTILES) + 7))
    for index in range(len(arrays)):
        volume = np.asarray(arrays[index], dtype=np.float32)
        brain = volume != 0
        if brain.any():
            rows[index] = _describe(volume, brain)
    return rows


def _describe(volume: FloatArray, brain: BoolArray) -> list[float]:
    values = [float(value) for value in np.percentile(volume[brain], QUANTILES)]
    for axis in range(3):
        step, inside = volume, brain
        for _ in range(2):
            length = inside.shape[axis]
            pairs = [np.take(inside, range(n, length - 1 + n), axis) for n in (0, 1)]
            step, inside = np.diff(step, axis=axis), pairs[0] & pairs[1]
            change = np.abs(step[inside]).mean() if inside.any() else 0.0
            values.append(float(np.log(change + _TINY)))
    return [*values, float(brain.mean())]


def _fit_appearance(rows: DoubleArray) -> tuple[FloatArray, FloatArray]:
    """Compute mean and inverse covariance, with a diagonal that lets few scans be inverted."""
    covariance = np.cov(rows.T)
    ridge = np.diag(covariance) * 0.01 + _TINY
    precision = np.linalg.inv(covariance + np.diag(ridge))
    return rows.mean(axis=0).astype(np.float32), precision.astype(np.float32)


def _mahalanobis(rows: DoubleArray, mean: FloatArray, precision: FloatArray) -> DoubleArray:
    centred = rows - mean
    distance: DoubleArray = np.einsum("ni,ij,nj->n", centred, precision.astype(np.float64), centred)
    return distance


def _fit_pca(
    features: FloatArray, count: int, seed: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    from sklearn.decomposition import PCA

    pca = PCA(count, svd_solver="randomized", random_state=seed).fit(features)
    variances = np.maximum(pca.explained_variance_, 1e-12)
    # Contiguous, since safetensors writes the memory as it lies.
    return (
        np.ascontiguousarray(pca.mean_, dtype=np.float32),
        np.ascontiguousarray(pca.components_, dtype=np.float32),
        np.ascontiguousarray(variances, dtype=np.float32),
    )


def _parts(
    features: FloatArray, mean: FloatArray, components: FloatArray, variances: FloatArray
) -> DoubleArray:
    """Compute T² and Q of each scan, (N, 2)."""
    centred = (features - mean).astype(np.float64)
    projected = centred @ components.T.astype(np.float64)
    residual = (centred**2).sum(axis=1) - (projected**2).sum(axis=1)
    return np.stack([(projected**2 / variances).sum(axis=1), residual.clip(0)], axis=1)
