"""Foreground of a scan, and resampling onto a grid in MNI space."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.preprocessing.template import load_template
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

# Centre of the bounding box of the template's brain mask (world mm); a test measures it again.
# With x = 0, mirroring the grid along i mirrors left and right.
TEMPLATE_CENTRE_MM = (0.0, -17.0, 5.0)

# A voxel is foreground when it departs from the background by this share of the 99th percentile:
# above interpolation ringing, below cerebrospinal fluid.
FOREGROUND_SHARE = 0.05
# Brain-extracted OASIS-1 scans: 1.70 to 2.32 L of foreground, at most 4 % of the border voxels.
# Whole heads of IXI: 3.3 L and more. A brain cropped to its box touches little of the border.
MAX_BRAIN_LITRES = 2.6
MAX_BORDER_SHARE = 0.25
# Brains brought to MNI space by an affine are larger than life: OASIS-1's have 1.69 to 2.32 L. A
# smaller brain that happens to overlap the template lies where the scanner saw it, a larger one is
# a small head without neck.
MNI_LITRES = (1.65, 2.4)


# A mask's share of brain is kept in such steps.
MASK_STEPS = 8


@dataclass(frozen=True)
class Foreground:
    """A scan with its background subtracted and its brightness scaled to about 1.

    Attributes
    ----------
    volume : Volume
        Background 0, 99th percentile of the departures from it 1.
    mask : numpy.ndarray of bool (I, J, K)
        Voxels that differ from the background.
    border_share : float
        Share of foreground among the voxels on the volume's six faces.
    """

    volume: Volume
    mask: BoolArray
    border_share: float

    @property
    def litres(self) -> float:
        """Foreground's volume in litres."""
        voxel_mm3 = abs(np.linalg.det(self.volume.affine[:3, :3]))
        return float(np.count_nonzero(self.mask) * voxel_mm3 / 1e6)


def find_foreground(volume: Volume, where: str) -> Foreground:
    """Tell a scan from its background, taken as the median over the volume's six faces.

    Raises
    ------
    PreparationError
        If fewer than 1 % of the voxels differ from the background.
    """
    data = volume.data
    faces = (data[[0, -1]], data[:, [0, -1]], data[:, :, [0, -1]])
    border = np.concatenate([face.ravel() for face in faces])
    background = np.median(border)
    # Float64 range for the one number that may overflow; the voxels stay float32.
    brightness = float(
        np.percentile(np.abs(data[::2, ::2, ::2].astype(np.float64) - background), 99)
    )
    if brightness == 0:
        problem = "nearly all voxels equal the background."
        raise PreparationError(where, problem, "Give a whole brain.")
    scaled = np.subtract(data, background, dtype=np.float32)
    scaled /= np.float32(brightness)
    outside = np.abs(border.astype(np.float64) - background) > FOREGROUND_SHARE * brightness
    return Foreground(
        volume=Volume(scaled, volume.affine),
        mask=np.abs(scaled) > FOREGROUND_SHARE,
        border_share=float(outside.mean()),
    )


def is_brain_extracted(foreground: Foreground) -> bool:
    """Tell whether the foreground has a brain's size and something empty surrounds it."""
    return foreground.border_share <= MAX_BORDER_SHARE and foreground.litres <= MAX_BRAIN_LITRES


def coarsen(foreground: Foreground, spacing_mm: float) -> Foreground:
    """Coarsen a foreground's volume and mask; see `coarsen_volume`."""
    source = foreground.volume
    volume = coarsen_volume(source, spacing_mm)
    if volume is source:
        return foreground
    share = Volume(foreground.mask.astype(np.float32), source.affine)
    return replace(foreground, volume=volume, mask=coarsen_volume(share, spacing_mm).data >= 0.5)


def coarsen_volume(source: Volume, spacing_mm: float) -> Volume:
    """Average blocks of voxels, as many along each axis as fit into `spacing_mm`.

    At twice the finest grid's resolution nothing that the grid can hold is lost, and a scan of
    1 mm costs an eighth of the smoothing that follows. Scans as coarse already stay as they are.
    """
    sizes = zip(source.spacing_mm, source.data.shape, strict=True)
    factors = [min(side, max(1, int(spacing_mm / size + 1e-3))) for size, side in sizes]
    if max(factors) == 1:
        return source
    affine = source.affine @ np.diag([*factors, 1.0])
    # The centre of a block's first voxel is not the centre of the block.
    affine[:3, 3] += source.affine[:3, :3] @ (np.array(factors) - 1) / 2
    return Volume(_average_blocks(source.data, factors), affine)


def _average_blocks(data: FloatArray, factors: list[int]) -> FloatArray:
    """Compute the mean of each whole block of voxels; what is left at the far ends is dropped."""
    counts = [side // factor for side, factor in zip(data.shape, factors, strict=True)]
    total = np.zeros(counts, np.float32)
    for corner in np.ndindex(*factors):
        window = zip(corner, counts, factors, strict=True)
        total += data[tuple(slice(at, at + n * step, step) for at, n, step in window)]
    return total / np.float32(np.prod(factors))


def is_in_mni_space(foreground: Foreground, min_overlap: float) -> bool:
    """Tell whether an extracted brain has the template's size and, as it lies, its place."""
    template = load_template()
    _, mask = resample(foreground, template.affine, template.mask.shape)
    smallest, largest = MNI_LITRES
    has_size = smallest <= foreground.litres <= largest
    return has_size and dice(mask, template.mask) >= min_overlap


def dice(first: BoolArray, second: BoolArray) -> float:
    """Compute the Dice overlap of two masks, 0 to 1 (Dice 1945, doi:10.2307/1932409)."""
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))


def grid_affine(settings: PreprocessingConfig) -> DoubleArray:
    """Return affine of the network's grid: axis-aligned, centred on `TEMPLATE_CENTRE_MM`.

    Returns
    -------
    numpy.ndarray of float64 (4, 4)
        Grid index to MNI coordinates in mm.
    """
    affine = np.diag([settings.spacing_mm] * 3 + [1.0])
    half = settings.spacing_mm * (np.asarray(settings.shape) - 1) / 2
    affine[:3, 3] = np.asarray(TEMPLATE_CENTRE_MM) - half
    return affine


def resample(
    foreground: Foreground, affine: DoubleArray, shape: tuple[int, ...]
) -> tuple[FloatArray, BoolArray]:
    """Bring a scan and its mask onto another grid.

    Returns
    -------
    data : numpy.ndarray of float32, of `shape`
    mask : numpy.ndarray of bool, of `shape`
        Where at least half of a grid voxel is the scan's brain.
    """
    source = foreground.volume
    mask = Volume(foreground.mask.astype(np.float32), source.affine)
    return resample_volume(source, affine, shape), resample_volume(mask, affine, shape) >= 0.5


def resample_volume(source: Volume, affine: DoubleArray, shape: tuple[int, ...]) -> FloatArray:
    """Smooth against aliasing and interpolate linearly onto another grid; 0 outside the source.

    Parameters
    ----------
    source : Volume
    affine : numpy.ndarray of float64 (4, 4)
        Index of the new grid to the source's world coordinates in mm.
    shape : tuple of int (3,)
        Voxels of the new grid.
    """
    # Orientations of one image differ by float32 rounding of the affine; 1e-4 voxel hides that,
    # so that all of them give the same bits.
    index = np.round(np.linalg.inv(source.affine) @ affine, 4)
    ratio = np.linalg.norm(affine[:3, :3], axis=0).mean() / np.asarray(source.spacing_mm)
    ratio = np.round(ratio, 6)
    # Standard deviation that brings a voxel's point spread from the source's to the target's
    # spacing, in source voxels (Cardoso et al. 2015, doi:10.1007/978-3-319-24571-3_81).
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / (2 * np.sqrt(2 * np.log(2)))
    window, start = _crop(index, shape, source.data.shape, sigma)
    smooth = ndimage.gaussian_filter(source.data[window], sigma, mode="constant", truncate=3.0)
    offset = index[:3, 3] - start
    moved: FloatArray = ndimage.affine_transform(smooth, index[:3, :3], offset, shape, order=1)
    return moved


def _crop(
    index: DoubleArray, shape: tuple[int, ...], source: tuple[int, ...], sigma: DoubleArray
) -> tuple[tuple[slice, ...], DoubleArray]:
    """Return part of the source that the grid can see: scans with wide margins cost no more."""
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in shape])).reshape(3, -1)
    seen = index[:3, :3] @ corners + index[:3, 3:]
    margin = np.ceil(3 * sigma) + 2
    low = np.clip(np.floor(seen.min(axis=1) - margin), 0, np.asarray(source) - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=1) + margin) + 1, low + 1, source).astype(int)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return window, low.astype(np.float64)
