"""The coil's bias field: a straight line first, then N4.

N4 (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908) is SimpleITK's, on one thread
(`threads.one_thread`). It sharpens the histogram step by step and ends long before a strong field
is gone, and the more steps it takes the more of the tissue's own contrast it takes off too. So what
is strong, and no tissue's, is taken off before: the straight line by which the brightness of a head
departs from the template's.
"""

import numpy as np
from scipy import optimize

from brainage.config import PreprocessingConfig
from brainage.preprocessing.mni import coarsen_volume, resample_volume
from brainage.preprocessing.registration import Alignment
from brainage.preprocessing.template import CHECK_SPACING_MM, load_template
from brainage.types import DoubleArray, Volume

# Depth under the template's outline from which fields are estimated.
_DEPTH_MM = 4.0
_LEVELS = 3
_MAX_LOG_BIAS = 1.5
# Brightness, over its median in the template's brain, of what is tissue; and of what a scan shows.
_TISSUE, _SEEN = 0.5, 0.05
# Departure from the line, as a logarithm, from which a voxel counts less and less.
_USUAL_LOG = 0.1


def correct_inside(
    head: Volume, alignment: Alignment, settings: PreprocessingConfig
) -> tuple[Volume, Volume]:
    """Remove the bias field that the inside of the brain shows, and return both.

    The rim takes no part, so that a brain has one field however tightly it was stripped.
    """
    template = load_template(CHECK_SPACING_MM)
    inside = (template.distance_mm <= -_DEPTH_MM).astype(np.float32)
    mask = Volume(inside, alignment.to_scan @ template.affine)
    line = estimate_line(head, alignment, settings)
    rest = estimate_bias(correct_bias(head, line), mask, settings)
    # Sixteen bits (0.05 %) are what is kept of it.
    field = (line.data * rest.data).astype(np.float16).astype(np.float32)
    bias = Volume(field, rest.affine)
    return correct_bias(head, bias), bias


def estimate_line(head: Volume, alignment: Alignment, settings: PreprocessingConfig) -> Volume:
    """Estimate how brightness rises along a straight line, on N4's grid.

    The logarithm of the ratio to the template, tissue by tissue in the inside of the brain, is
    fitted by a constant and three slopes, with Cauchy's loss: what differs from the template, as
    fluid where others have tissue, counts little.

    Returns
    -------
    Volume
        Field (I, J, K), 1 in the middle of the brain; divide by it.
    """
    template = load_template(CHECK_SPACING_MM)
    where = np.argwhere(template.distance_mm <= -_DEPTH_MM)
    places = where @ template.affine[:3, :3].T + template.affine[:3, 3]
    on_template = resample_volume(head, alignment.to_scan @ template.affine, template.mask.shape)
    seen, usual = (data[tuple(where.T)] for data in (on_template, template.intensity))
    counts = (seen > _SEEN * np.median(seen)) & (usual > _TISSUE * np.median(usual))
    middle, reach = places.mean(axis=0), float(np.abs(places - places.mean(axis=0)).max())
    terms = np.column_stack([np.ones(counts.sum()), (places[counts] - middle) / reach])
    ratio = np.log(seen[counts] / usual[counts])

    def misfit(weights: DoubleArray) -> DoubleArray:
        return terms @ weights - ratio

    def slopes(_: DoubleArray) -> DoubleArray:
        return terms

    start = np.array([np.median(ratio), 0.0, 0.0, 0.0])
    found = optimize.least_squares(misfit, start, slopes, loss="cauchy", f_scale=_USUAL_LOG)
    small = coarsen_volume(head, settings.bias_spacing_mm)
    index = np.indices(small.data.shape).reshape(3, -1)
    to_mni = alignment.to_mni @ small.affine
    there = to_mni[:3, :3] @ index + to_mni[:3, 3:] - middle[:, None]
    log = found.x[1:] @ (there / reach)
    field = np.exp(log.clip(-_MAX_LOG_BIAS, _MAX_LOG_BIAS)).reshape(small.data.shape)
    return Volume(field.astype(np.float32), small.affine)


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
    correction.SetMaximumNumberOfIterations([settings.bias_iterations] * _LEVELS)
    image = sitk.GetImageFromArray(small.data)
    correction.Execute(image, sitk.GetImageFromArray(used.astype(np.uint8)))
    field = sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(image)).astype(np.float32)
    field -= field[used].mean()
    # Splines run away where nothing held them.
    return Volume(np.exp(field.clip(-_MAX_LOG_BIAS, _MAX_LOG_BIAS)), small.affine)


def correct_bias(head: Volume, bias: Volume) -> Volume:
    """Divide a head by its bias field."""
    field = resample_volume(bias, head.affine, head.data.shape)
    # Outside the field's grid there is nothing to correct.
    field[field <= 0] = 1
    return Volume(head.data / field, head.affine)
