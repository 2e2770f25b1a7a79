"""Skull stripping: the steps from a whole head to candidates for its brain.

N4 (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908) and Otsu's thresholds (Otsu 1979,
doi:10.1109/TSMC.1979.4310076) are SimpleITK's, on one thread (`threads.one_thread`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.preprocessing.background import reach_from_faces
from brainage.preprocessing.mni import TEMPLATE_CENTRE_MM, coarsen_volume, resample_volume
from brainage.types import BoolArray, FloatArray, Volume

# Field of view of the grid on which a straight head is corrected and its skull found.
_BOX_MM = (220.0, 260.0, 220.0)
# Volumes that a candidate for the brain may have, before it is registered.
MIN_LITRES, MAX_LITRES = 0.4, 3.0
# Depth in mm above which more depth does not make a component more central.
_DEPTH_CAP_MM = 20.0
_OTSU_BINS = 128
_BIAS_LEVELS = 3
_MAX_LOG_BIAS = 1.5


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


def to_straight_grid(volume: Volume, spacing_mm: float) -> Volume:
    """Resample a head that lies straight onto a box that holds any head but its neck."""
    half = np.asarray(_BOX_MM) / 2
    affine = np.diag([spacing_mm] * 3 + [1.0])
    shape = tuple(int(side) for side in np.floor(2 * half / spacing_mm) + 1)
    affine[:3, 3] = np.asarray(TEMPLATE_CENTRE_MM) - spacing_mm * (np.array(shape) - 1) / 2
    return Volume(resample_volume(coarsen_volume(volume, spacing_mm), affine, shape), affine)


def estimate_bias(head: Volume, mask: Volume, settings: PreprocessingConfig) -> Volume:
    """Estimate the coil's bias field inside a mask by N4, on a coarser grid.

    Returns
    -------
    Volume
        Field (I, J, K) on that grid, 1 on average over the mask; divide by it.
    """
    import SimpleITK as sitk  # 95 MB, which a process that finds all scans in the store spares

    small = coarsen_volume(head, settings.bias_spacing_mm)
    used = resample_volume(mask, small.affine, small.data.shape) >= 0.5
    used &= small.data > 0
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations([settings.bias_iterations] * _BIAS_LEVELS)
    image = sitk.GetImageFromArray(small.data)
    correction.Execute(image, sitk.GetImageFromArray(used.astype(np.uint8)))
    field = sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(image)).astype(np.float32)
    field -= field[used].mean()
    # Splines run away where nothing held them. Sixteen bits (0.05 %) are what is kept of it.
    field = np.exp(field.clip(-_MAX_LOG_BIAS, _MAX_LOG_BIAS)).astype(np.float16)
    return Volume(field.astype(np.float32), small.affine)


def correct_bias(head: Volume, bias: Volume) -> Volume:
    """Divide a head by its bias field."""
    field = resample_volume(bias, head.affine, head.data.shape)
    # Outside the field's grid there is nothing to correct.
    field[field <= 0] = 1
    return Volume(head.data / field, head.affine)


def find_brains(head: Volume, erosions_mm: Sequence[float]) -> Iterator[BoolArray]:
    """Find candidates for the brain (I, J, K), one for each erosion that leaves a brain's volume.

    Tissue is what is brighter than the second of three Otsu thresholds. Eroding it cuts the
    brain from the scalp; the deepest component is kept, dilated back and its holes filled. Which
    erosion is right differs between heads: registration chooses.
    """
    spacing_mm = head.spacing_mm[0]
    depth_mm = ndimage.distance_transform_edt(head.data > tissue_threshold(head.data)) * spacing_mm
    for erosion_mm in erosions_mm:
        labels, count = ndimage.label(depth_mm > erosion_mm)
        if count == 0:
            continue
        weight = ndimage.sum_labels(depth_mm.clip(0, _DEPTH_CAP_MM), labels, range(1, count + 1))
        core = labels == 1 + int(np.argmax(weight))
        # 2 mm more than was eroded takes in the fluid around the cortex.
        mask = _grow(core, erosion_mm + 2, spacing_mm)
        if MIN_LITRES <= mask.sum() * spacing_mm**3 / 1e6 <= MAX_LITRES:
            yield mask


def _grow(core: BoolArray, reach_mm: float, spacing_mm: float) -> BoolArray:
    """Dilate by a distance and fill the holes, looking only at the box where that happens."""
    box = _box_around(core, reach_mm / spacing_mm)
    mask = np.zeros_like(core)
    near = ndimage.distance_transform_edt(~core[box]) * spacing_mm <= reach_mm
    mask[box] = ~reach_from_faces(~near)
    return mask


def _box_around(mask: BoolArray, reach: float) -> tuple[slice, ...]:
    """Find the window of a mask that is not empty, and of all voxels within a reach of it."""
    margin = int(np.ceil(reach)) + 1
    sides = ndimage.find_objects(mask.astype(np.int8))[0]
    return tuple(slice(max(0, side.start - margin), side.stop + margin) for side in sides)


def tissue_threshold(data: FloatArray) -> float:
    """Compute the second of three Otsu thresholds: between fluid and grey matter in a T1 head."""
    import SimpleITK as sitk

    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(3)
    otsu.SetNumberOfHistogramBins(_OTSU_BINS)
    sparse = data[::2, ::2, ::2]
    bright = np.float32(np.percentile(sparse, 99.5))
    otsu.Execute(sitk.GetImageFromArray(np.minimum(sparse, bright)))
    return float(otsu.GetThresholds()[1])
