"""Find the inside of the skull, which bounds the brain and its fluid, in a head that is aligned.

Brightness along the normals of a surface around the template's brain is compared with its mean in
other heads, and the surface moved to where both agree: the search of an active shape model (Cootes
et al. 1995, doi:10.1006/cviu.1995.1004), kept smooth by averaging over neighbours. No tissue is
classified, so that fluid in wide sulci belongs to the brain at any age. ``skull.npz`` holds the
surface, its profiles and where on them the mask ends; ``python -m pipelines.release.skull`` makes
it from whole heads and an independent segmentation of them.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from brainage.errors import StoreError
from brainage.preprocessing.mni import MASK_STEPS, resample_volume
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template, load_tissues
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

SKULL_FILE = Path(__file__).with_name("skull.npz")
SKULL_SHA256 = "46725398d9a065f86ba4a248e9a6b17752206ca6c32a47b7755196113626c3b7"
# Offsets that are tried, half of a profile's length, and brightness's ceiling (white matter 1).
OFFSETS_MM = np.arange(-10, 11, 1.0)
PROFILE_MM = np.arange(-12, 13, 1.0)
CEILING = 1.3
# Standard deviation of profiles below which no difference counts more.
_FLOOR = 0.1
# How far neighbours share their costs, and their offsets; both as a Gaussian's deviation.
_COST_MM, _OFFSET_MM = 4.0, 6.0
# Stiffness: cost of a mm² of distance from the neighbours, and its growth in each round.
_STIFFNESS, _STIFFENING, _ROUNDS = 0.005, 1.5, 5
# Points on opposite sides of a fold are no neighbours: smallest cosine between their normals.
_MIN_COSINE = 0.3
_BAND_MM = 14.0
REACH_MM = np.arange(OFFSETS_MM[0] + PROFILE_MM[0], OFFSETS_MM[-1] + PROFILE_MM[-1] + 1, 1.0)


@dataclass(frozen=True)
class Surface:
    """A closed surface in MNI space, as points on it and distances from it.

    Attributes
    ----------
    distance_mm : numpy.ndarray of float32 (I, J, K)
        From the surface, negative inside, on the template's grid of 2 mm.
    points, normals : numpy.ndarray of float64 (N, 3)
        MNI coordinates in mm, about 4 mm apart, and unit vectors outwards.
    """

    distance_mm: FloatArray
    points: DoubleArray
    normals: DoubleArray

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points)

    @cached_property
    def share_costs(self) -> sparse.csr_matrix:
        """Weights (N, N) that average over neighbours, for costs."""
        return self._average(_COST_MM)

    @cached_property
    def share_offsets(self) -> sparse.csr_matrix:
        """Weights (N, N) that average over neighbours, for offsets."""
        return self._average(_OFFSET_MM)

    def _average(self, deviation_mm: float) -> sparse.csr_matrix:
        apart = self._tree.sparse_distance_matrix(
            self._tree, 3 * deviation_mm, output_type="coo_matrix"
        )
        cosines = (self.normals[apart.row] * self.normals[apart.col]).sum(axis=1)
        near = cosines > _MIN_COSINE
        weights = np.exp(-0.5 * (apart.data[near] / deviation_mm) ** 2)
        places = (apart.row[near], apart.col[near])
        count = len(self.points)
        matrix = sparse.csr_matrix((weights, places), shape=(count, count))
        matrix.setdiag(1.0)
        return sparse.csr_matrix(sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix)

    @cached_property
    def _band(self) -> tuple[BoolArray, np.ndarray]:
        """Voxels (I, J, K) near the surface, and the point nearest to each of them."""
        band = np.abs(self.distance_mm) < _BAND_MM
        affine = load_template(TISSUE_SPACING_MM).affine
        places = np.argwhere(band) @ affine[:3, :3].T + affine[:3, 3]
        return band, np.asarray(self._tree.query(places)[1])

    def get_ready(self) -> None:
        """Compute what is kept for every head."""
        _ = self._band, self.share_costs, self.share_offsets

    def move(self, offsets_mm: DoubleArray) -> FloatArray:
        """Compute distances (I, J, K) from the surface moved outwards by offsets in mm (N,)."""
        band, nearest = self._band
        spread = np.zeros(band.shape, np.float32)
        spread[band] = offsets_mm[nearest]
        weight = ndimage.gaussian_filter(band.astype(np.float32), 1.5)
        spread = ndimage.gaussian_filter(spread, 1.5) / (weight + np.float32(1e-6))
        return np.where(band, self.distance_mm - spread, self.distance_mm)

    def sample(self, head: Volume, to_mni: DoubleArray) -> FloatArray:
        """Sample profiles (N, P) along the normals, white matter 1, long enough for all offsets."""
        template = load_template(TISSUE_SPACING_MM)
        on_grid = np.linalg.inv(to_mni) @ template.affine
        aligned = resample_volume(head, on_grid, template.mask.shape)
        white = float(np.median(aligned[load_tissues()[0] > 0.9]))
        values = self.sample_along(head, to_mni) / np.float32(max(white, 1e-6))
        return values.clip(0, CEILING).astype(np.float32)

    def sample_along(self, volume: Volume, to_mni: DoubleArray) -> FloatArray:
        """Sample a volume's own values (N, P) along the normals, at `REACH_MM` from the surface."""
        steps = REACH_MM[None, :, None] * self.normals[:, None, :]
        places = (self.points[:, None, :] + steps).reshape(-1, 3)
        to_index = np.linalg.inv(volume.affine) @ np.linalg.inv(to_mni)
        index = places @ to_index[:3, :3].T + to_index[:3, 3]
        values = ndimage.map_coordinates(volume.data, index.T, order=1, mode="nearest")
        sampled: FloatArray = values.reshape(len(self.points), -1)
        return sampled

    def fit(self, profiles: FloatArray, mean: FloatArray, deviation: FloatArray) -> DoubleArray:
        """Find the offset in mm (N,) of each point at which profiles agree with the mean.

        Parameters
        ----------
        profiles : numpy.ndarray of float32 (N, P)
            Of a head, by `sample`.
        mean, deviation : numpy.ndarray of float32 (N, Q)
            Of other heads' profiles, Q as `PROFILE_MM`.
        """
        length = len(PROFILE_MM)
        windows = np.lib.stride_tricks.sliding_window_view(profiles, length, axis=1)
        spread = np.maximum(deviation, _FLOOR)[:, None, :]
        costs = self.share_costs @ (((windows - mean[:, None, :]) / spread) ** 2).mean(axis=2)
        rows, offsets, stiffness = np.arange(len(costs)), np.zeros(len(costs)), _STIFFNESS
        for _ in range(_ROUNDS):
            total = costs + stiffness * (OFFSETS_MM - offsets[:, None]) ** 2
            best = total.argmin(axis=1)
            # The vertex of the parabola through the best and its two neighbours.
            inner = best.clip(1, len(OFFSETS_MM) - 2)
            low, at, high = (total[rows, inner + step] for step in (-1, 0, 1))
            vertex = 0.5 * (low - high) / (low - 2 * at + high + 1e-9)
            finer = OFFSETS_MM[best] + np.where(best == inner, vertex.clip(-1, 1), 0)
            offsets = self.share_offsets @ finer
            stiffness *= _STIFFENING
        return np.asarray(offsets, dtype=np.float64)


@dataclass(frozen=True)
class Skull:
    """The inside of the skull in MNI space, and how brightness falls across it.

    Attributes
    ----------
    surface : Surface
    mean, deviation : numpy.ndarray of float32 (N, Q)
        Of heads' profiles across it, white matter 1.
    level_mm : numpy.ndarray of float64 (N,)
        Where on the mean profile the mask ends.
    """

    surface: Surface
    mean: FloatArray
    deviation: FloatArray
    level_mm: DoubleArray


def find_brain_in_skull(head: Volume, to_mni: DoubleArray) -> Volume:
    """Find the mask of brain and fluid inside the skull of a head.

    Parameters
    ----------
    head : Volume
        Whole head (I, J, K), bias field removed.
    to_mni : numpy.ndarray of float64 (4, 4)
        The head's world coordinates to MNI coordinates in mm, as far as is known.

    Returns
    -------
    Volume
        Share of brain (I, J, K), 0 to 1 in steps, on the template's grid of 2 mm laid into the
        head's world.
    """
    skull = load_skull()
    offsets = skull.surface.fit(skull.surface.sample(head, to_mni), skull.mean, skull.deviation)
    distance = skull.surface.move(offsets + skull.level_mm)
    # A ramp across the outline, so that other grids find it between the voxels of this one.
    share = np.round((0.5 - distance / (2 * TISSUE_SPACING_MM)).clip(0, 1) * MASK_STEPS)
    affine = np.linalg.inv(to_mni) @ load_template(TISSUE_SPACING_MM).affine
    return Volume((share / MASK_STEPS).astype(np.float32), affine)


def make_surface(distance_mm: FloatArray) -> Surface:
    """Make a surface of a map (I, J, K) of the distance from it, on the template's 2 mm grid."""
    smooth = ndimage.gaussian_filter(distance_mm, 1.5)
    edge = np.argwhere((distance_mm <= 0) & ndimage.binary_dilation(distance_mm > 0))
    # One voxel of each block of 4 mm.
    _, first = np.unique(edge // 2, axis=0, return_index=True)
    index = edge[first]
    at = tuple(index.T)
    slopes = np.stack([np.gradient(smooth, axis=axis)[at] for axis in range(3)], axis=1)
    normals = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    affine = load_template(TISSUE_SPACING_MM).affine
    places = index @ affine[:3, :3].T + affine[:3, 3]
    points = places - smooth[at][:, None] * normals
    return Surface(distance_mm, points, normals)


@lru_cache(maxsize=1)
def load_skull() -> Skull:
    """Load the skull that the package carries."""
    content = SKULL_FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != SKULL_SHA256:
        raise StoreError(str(SKULL_FILE), "is not the file of this version.", "Install again.")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        parts = {name: stored[name] for name in stored.files}
    surface = Surface(
        parts["distance_mm"].astype(np.float32) / 4,
        parts["points"].astype(np.float64),
        parts["normals"].astype(np.float64),
    )
    mean, deviation = (parts[name].astype(np.float32) for name in ("mean", "deviation"))
    return Skull(surface, mean, deviation, parts["level_mm"].astype(np.float64))
