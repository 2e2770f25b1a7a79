"""Skull stripping: the steps from a whole head to candidates for its brain.

N4 (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908) and Otsu's thresholds (Otsu 1979,
doi:10.1109/TSMC.1979.4310076) are SimpleITK's, on one thread (`threads.one_thread`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.preprocessing.mni import coarsen_volume, resample_volume
from brainage.types import BoolArray, FloatArray, Volume

# Share of the brightness range below which a voxel is air.
AIR_SHARE = 0.05
# A slice belongs to the head when it holds this much that is not air.
MIN_SLICE_CM2 = 20.0
# Volumes that a candidate for the brain may have, before it is registered.
MIN_LITRES, MAX_LITRES = 0.4, 3.0
# Depth in mm above which more depth does not make a component more central.
_DEPTH_CAP_MM = 20.0
_OTSU_BINS = 128
_BIAS_LEVELS = 3
_MAX_LOG_BIAS = 1.5


@dataclass(frozen=True)
class BrainCandidate:
    """A component of tissue that may be the brain.

    Attributes
    ----------
    mask : numpy.ndarray of bool (I, J, K)
    erosion_mm : float
        Erosion that cut it from skull and face.
    litres : float
    """

    mask: BoolArray
    erosion_mm: float
    litres: float


def scale_brightness(volume: Volume, where: str) -> Volume:
    """Bring the darkest percent of a head to 0 and its brightest to 1, clipped at 0 and 2.

    Raises
    ------
    PreparationError
        If the voxels have no contrast.
    """
    dark, bright = np.percentile(volume.data[::2, ::2, ::2].astype(np.float64), (1, 99))
    if bright <= dark:
        raise PreparationError(where, "nearly all voxels are equal.", "Give a whole head.")
    scaled = (volume.data - np.float32(dark)) / np.float32(bright - dark)
    return Volume(scaled.clip(0, 2), volume.affine)


def to_working_grid(volume: Volume, spacing_mm: float) -> Volume:
    """Resample to an isotropic grid along the world's axes, whatever spacing and obliquity."""
    source = coarsen_volume(volume, spacing_mm)
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in source.data.shape])).reshape(3, -1)
    places = source.affine[:3, :3] @ corners + source.affine[:3, 3:]
    low, high = places.min(axis=1), places.max(axis=1)
    shape = np.floor((high - low) / spacing_mm).astype(int) + 1
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (low + high - spacing_mm * (shape - 1)) / 2
    return Volume(resample_volume(source, affine, tuple(shape.tolist())), affine)


def crop_neck(head: Volume, height_mm: float, where: str) -> Volume:
    """Keep `height_mm` below the top of the head.

    Raises
    ------
    PreparationError
        If there is hardly anything but air.
    """
    spacing_mm = head.spacing_mm[0]
    area_cm2 = (head.data > AIR_SHARE).sum(axis=(0, 1)) * spacing_mm**2 / 100
    slices = np.flatnonzero(area_cm2 > MIN_SLICE_CM2)
    if len(slices) == 0:
        problem = f"no slice holds more than {MIN_SLICE_CM2:g} cm² of head."
        raise PreparationError(where, problem, "Give a whole head.")
    start = max(0, int(slices[-1] + 1 - height_mm / spacing_mm))
    affine = head.affine.copy()
    affine[:3, 3] += head.affine[:3, 2] * start
    return Volume(np.ascontiguousarray(head.data[:, :, start:]), affine)


def estimate_bias(
    head: Volume, settings: PreprocessingConfig, mask: BoolArray | None = None
) -> Volume:
    """Estimate the coil's bias field by N4 on a shrunken grid.

    Parameters
    ----------
    head : Volume
        On the working grid.
    mask : numpy.ndarray of bool (I, J, K), optional
        Brain. Without one, everything brighter than Otsu's threshold is used, and one level of
        detail less: fat and muscle would bend a finer field.

    Returns
    -------
    Volume
        Field (I, J, K) on the head's grid, 1 on average over the mask or head; divide by it.
    """
    image = sitk.GetImageFromArray(head.data)
    factor = max(1, round(settings.bias_spacing_mm / head.spacing_mm[0]))
    small = sitk.Shrink(image, [factor] * 3)
    if mask is None:
        used = sitk.OtsuThreshold(small, 0, 1, 200)
    else:
        used = sitk.Shrink(sitk.GetImageFromArray(mask.astype(np.uint8)), [factor] * 3)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    levels = _BIAS_LEVELS if mask is not None else _BIAS_LEVELS - 1
    correction.SetMaximumNumberOfIterations([settings.bias_iterations] * levels)
    correction.Execute(small, used)
    field = sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(image)).astype(np.float32)
    field -= field[head.data > AIR_SHARE if mask is None else mask].mean()
    # Splines run away where nothing held them. Sixteen bits (0.05 %) are what is kept of it.
    field = np.exp(field.clip(-_MAX_LOG_BIAS, _MAX_LOG_BIAS)).astype(np.float16)
    return Volume(field.astype(np.float32), head.affine)


def find_brains(head: Volume, erosions_mm: Sequence[float]) -> list[BrainCandidate]:
    """Find candidates for the brain, one for each erosion that leaves a brain's volume.

    Tissue is what is brighter than the second of three Otsu thresholds. Eroding it cuts the
    brain from the scalp; the deepest component is kept, dilated back and its holes filled. Which
    erosion is right differs between heads: registration chooses (`register_candidates`).
    """
    spacing_mm = head.spacing_mm[0]
    depth_mm = ndimage.distance_transform_edt(head.data > tissue_threshold(head.data)) * spacing_mm
    found = []
    for erosion_mm in erosions_mm:
        labels, count = ndimage.label(depth_mm > erosion_mm)
        if count == 0:
            break
        weight = ndimage.sum_labels(depth_mm.clip(0, _DEPTH_CAP_MM), labels, range(1, count + 1))
        core = labels == 1 + int(np.argmax(weight))
        # 2 mm more than was eroded takes in the fluid around the cortex.
        mask = _grow(core, erosion_mm + 2, spacing_mm)
        litres = float(mask.sum() * spacing_mm**3 / 1e6)
        if MIN_LITRES <= litres <= MAX_LITRES:
            found.append(BrainCandidate(mask, erosion_mm, litres))
    return found


def _grow(core: BoolArray, reach_mm: float, spacing_mm: float) -> BoolArray:
    """Dilate by a distance and fill the holes, looking only at the box where that happens."""
    box = _box_around(core, reach_mm / spacing_mm)
    mask = np.zeros_like(core)
    near = ndimage.distance_transform_edt(~core[box]) * spacing_mm <= reach_mm
    mask[box] = _fill_holes(near)
    return mask


def _box_around(mask: BoolArray, reach: float) -> tuple[slice, ...]:
    """Find the window of a mask that is not empty, and of all voxels within a reach of it."""
    margin = int(np.ceil(reach)) + 1
    sides = ndimage.find_objects(mask.astype(np.int8))[0]
    return tuple(slice(max(0, side.start - margin), side.stop + margin) for side in sides)


def _fill_holes(mask: BoolArray) -> BoolArray:
    """Fill what the outside cannot reach; a labelling is much faster than SciPy's dilations."""
    labels, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    filled: BoolArray = (labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled


def tissue_threshold(data: FloatArray) -> float:
    """Compute the second of three Otsu thresholds: between fluid and grey matter in a T1 head."""
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(3)
    otsu.SetNumberOfHistogramBins(_OTSU_BINS)
    sparse = data[::2, ::2, ::2]
    bright = np.float32(np.percentile(sparse, 99.5))
    otsu.Execute(sitk.GetImageFromArray(np.minimum(sparse, bright)))
    return float(otsu.GetThresholds()[1])


def refine_mask(
    candidate: BoolArray, template_mask: BoolArray, spacing_mm: float, slack_mm: float
) -> BoolArray:
    """Mask of the brain between the candidate's and the template's.

    Where the two edges are within `slack_mm` of each other the candidate's counts; further in,
    everything is brain (ventricles, dark nuclei), further out nothing is (scalp, dura, neck).

    Parameters
    ----------
    candidate, template_mask : numpy.ndarray of bool (I, J, K)
        The scan's own mask, and the template's brought to the scan's grid.
    """
    mask = np.zeros_like(template_mask)
    if not template_mask.any():
        return mask
    box = _box_around(template_mask, slack_mm / spacing_mm)
    outside_mm = ndimage.distance_transform_edt(~template_mask[box]) * spacing_mm
    inside_mm = ndimage.distance_transform_edt(template_mask[box]) * spacing_mm
    near = candidate[box] & (outside_mm <= slack_mm)
    mask[box] = _fill_holes((inside_mm > 2 * slack_mm) | near)
    return mask
