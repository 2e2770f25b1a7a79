"""From a scan in MNI space to the network's grid.

The reference is the MNI ICBM152 nonlinear symmetric 2009a template (Fonov et al. 2011,
doi:10.1016/j.neuroimage.2010.07.033) with its brain mask, which nilearn carries offline.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from torch.nn.functional import avg_pool3d

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.types import BoolArray, DoubleArray, FloatArray, Volume

# Centre of the bounding box of the template's brain mask (world mm); a test measures it again.
# With x = 0, mirroring the grid along i mirrors left and right.
TEMPLATE_CENTRE_MM = (0.0, -17.0, 5.0)
CHECK_SPACING_MM = 4

# A voxel is foreground when it departs from the background by this share of the 99th percentile:
# above interpolation ringing, below cerebrospinal fluid.
FOREGROUND_SHARE = 0.05
# Brain-extracted OASIS-1 scans: 1.70 to 2.32 L of foreground, at most 4 % of the border voxels.
# Whole heads of IXI: 3.3 L and more. A brain cropped to its box touches little of the border.
MAX_BRAIN_LITRES = 2.6
MAX_BORDER_SHARE = 0.25

_HOW_TO_MEND = (
    "Raw heads are not accepted yet: extract the brain and register it to MNI152 space first."
)


@dataclass(frozen=True)
class Template:
    """The MNI152 template on a grid of its own.

    Attributes
    ----------
    intensity : numpy.ndarray of float32 (I, J, K)
        T1 contrast, 0 outside the brain.
    mask : numpy.ndarray of bool (I, J, K)
        Brain.
    affine : numpy.ndarray of float64 (4, 4)
        Voxel index to MNI coordinates in mm.
    """

    intensity: FloatArray
    mask: BoolArray
    affine: DoubleArray


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


@lru_cache(maxsize=2)
def load_template(spacing_mm: int = CHECK_SPACING_MM) -> Template:
    """Load nilearn's bundled MNI152 template and brain mask at a spacing in mm."""
    image = load_mni152_template(resolution=spacing_mm)
    mask = load_mni152_brain_mask(resolution=spacing_mm)
    intensity = np.ascontiguousarray(image.get_fdata(dtype=np.float32))
    return Template(intensity, np.asarray(mask.dataobj) > 0.5, np.asarray(image.affine))


def prepare_volume(
    volume: Volume, settings: PreprocessingConfig, where: str
) -> tuple[FloatArray, BoolArray]:
    """Bring a scan onto the network's grid by the route that suits it.

    There is one route so far, for scans already brain-extracted and in MNI space. The route of
    raw heads branches off here, before the checks.

    Parameters
    ----------
    volume : Volume
        Scan (I, J, K), RAS+.
    where : str
        Scan named in errors.

    Returns
    -------
    data : numpy.ndarray of float32, of the settings' shape
        Intensities, background 0, not yet normalised.
    mask : numpy.ndarray of bool, of the settings' shape
        The scan's brain.

    Raises
    ------
    PreparationError
        If the scan is not brain-extracted, not in MNI space or not T1-weighted.
    """
    foreground = find_foreground(volume, where)
    check_brain_extracted(foreground, where)
    foreground = coarsen(foreground, min(CHECK_SPACING_MM, settings.spacing_mm) / 2)
    check_mni_space(foreground, settings, where)
    return resample_to_grid(foreground, settings)


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


def check_brain_extracted(foreground: Foreground, where: str) -> None:
    """Check that the foreground has a brain's size and that something empty surrounds it.

    Raises
    ------
    PreparationError
        If it is a whole head, or has no uniform background.
    """
    if foreground.border_share > MAX_BORDER_SHARE:
        problem = (
            "is not brain-extracted: expected a uniform background, "
            f"but {foreground.border_share:.0%} of the border voxels differ from it."
        )
        raise PreparationError(where, problem, _HOW_TO_MEND)
    if foreground.litres > MAX_BRAIN_LITRES:
        problem = (
            f"is not brain-extracted: expected at most {MAX_BRAIN_LITRES} L of brain, "
            f"got {foreground.litres:.2f} L (skull, face or neck)."
        )
        raise PreparationError(where, problem, _HOW_TO_MEND)


def coarsen(foreground: Foreground, spacing_mm: float) -> Foreground:
    """Average blocks of voxels, as many along each axis as fit into `spacing_mm`.

    At twice the finest grid's resolution nothing that the grid can hold is lost, and a scan of
    1 mm costs an eighth of the smoothing that follows. Scans as coarse already stay as they are.
    """
    source = foreground.volume
    sizes = zip(source.spacing_mm, source.data.shape, strict=True)
    factors = [min(side, max(1, int(spacing_mm / size + 1e-3))) for size, side in sizes]
    if max(factors) == 1:
        return foreground

    def average(values: FloatArray) -> FloatArray:
        return avg_pool3d(torch.from_numpy(values)[None], factors)[0].numpy()

    affine = source.affine @ np.diag([*factors, 1.0])
    # The centre of a block's first voxel is not the centre of the block.
    affine[:3, 3] += source.affine[:3, :3] @ (np.array(factors) - 1) / 2
    mask = average(foreground.mask.astype(np.float32)) >= 0.5
    return replace(foreground, volume=Volume(average(source.data), affine), mask=mask)


def check_mni_space(foreground: Foreground, settings: PreprocessingConfig, where: str) -> None:
    """Check place and contrast of the scan's brain against the MNI152 template.

    Place is the Dice overlap of the brain masks (Dice 1945); contrast is Pearson's correlation
    of intensities inside both. Left and right cannot be told apart by either.

    Raises
    ------
    PreparationError
        If the overlap is below `settings.min_mask_overlap`, or the correlation below
        `settings.min_template_correlation`.
    """
    template = load_template()
    data, mask = _resample(foreground, template.affine, template.mask.shape)
    common = mask & template.mask
    overlap = 2 * common.sum() / (mask.sum() + template.mask.sum())
    if overlap < settings.min_mask_overlap:
        problem = (
            f"is not in MNI space: its brain overlaps the template's with Dice {overlap:.2f}, "
            f"at least {settings.min_mask_overlap:.2f} is needed."
        )
        raise PreparationError(where, problem, "Register it to MNI152 space first.")
    correlation = float(np.corrcoef(data[common], template.intensity[common])[0, 1])
    if not correlation >= settings.min_template_correlation:
        problem = (
            f"does not look T1-weighted: correlation with the template is {correlation:.2f}, "
            f"at least {settings.min_template_correlation:.2f} is needed."
        )
        raise PreparationError(where, problem, "Give a T1-weighted scan.")


def grid_affine(settings: PreprocessingConfig) -> DoubleArray:
    """Affine of the network's grid: axis-aligned, centred on `TEMPLATE_CENTRE_MM`.

    Returns
    -------
    numpy.ndarray of float64 (4, 4)
        Grid index to MNI coordinates in mm.
    """
    affine = np.diag([settings.spacing_mm] * 3 + [1.0])
    half = settings.spacing_mm * (np.asarray(settings.shape) - 1) / 2
    affine[:3, 3] = np.asarray(TEMPLATE_CENTRE_MM) - half
    return affine


def resample_to_grid(
    foreground: Foreground, settings: PreprocessingConfig
) -> tuple[FloatArray, BoolArray]:
    """Smooth against aliasing and interpolate linearly onto the network's grid.

    Returns
    -------
    data : numpy.ndarray of float32, of the settings' shape
    mask : numpy.ndarray of bool, of the settings' shape
        Where at least half of a grid voxel is the scan's brain.
    """
    return _resample(foreground, grid_affine(settings), settings.shape)


def _resample(
    foreground: Foreground, affine: DoubleArray, shape: tuple[int, ...]
) -> tuple[FloatArray, BoolArray]:
    source = foreground.volume
    # Orientations of one image differ by float32 rounding of the affine; 1e-4 voxel hides that,
    # so that all of them give the same bits.
    index = np.round(np.linalg.inv(source.affine) @ affine, 4)
    ratio = np.linalg.norm(affine[:3, :3], axis=0).mean() / np.asarray(source.spacing_mm)
    # Standard deviation that brings a voxel's point spread from the source's to the target's
    # spacing, in source voxels (Cardoso et al. 2015, doi:10.1007/978-3-319-24571-3_81).
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / (2 * np.sqrt(2 * np.log(2)))
    window, start = _crop(index, shape, source.data.shape, sigma)

    def onto_grid(values: FloatArray) -> FloatArray:
        smooth = ndimage.gaussian_filter(values[window], sigma, mode="constant", truncate=3.0)
        offset = index[:3, 3] - start
        return ndimage.affine_transform(smooth, index[:3, :3], offset, shape, order=1)

    return onto_grid(source.data), onto_grid(foreground.mask.astype(np.float32)) >= 0.5


def _crop(
    index: DoubleArray, shape: tuple[int, ...], source: tuple[int, ...], sigma: DoubleArray
) -> tuple[tuple[slice, ...], DoubleArray]:
    """Part of the source that the grid can see: scans with wide margins cost no more."""
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in shape])).reshape(3, -1)
    seen = index[:3, :3] @ corners + index[:3, 3:]
    margin = np.ceil(3 * sigma) + 2
    low = np.clip(np.floor(seen.min(axis=1) - margin), 0, np.asarray(source) - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=1) + margin) + 1, low + 1, source).astype(int)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return window, low.astype(np.float64)
