"""Volumes of a brain's tissues and ventricles, of one scan or of many.

A mixture of three Gaussians (`brainage.mixture`) shares the voxels of the brain, at 2 mm in MNI
space, among grey matter, white matter and fluid; ventricles are the fluid around where the
template has them.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from brainage.config import PreprocessingConfig
from brainage.errors import ConfigError, PreparationError, StoreError, VolumeError
from brainage.evaluation.volume_curves import TISSUES
from brainage.mixture import share_tissue
from brainage.prepared.placement import ProcessedSource, process_source
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.pipeline import Processed, process_again
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template, load_tissues
from brainage.types import BoolArray, FloatArray, Json, Volume

TASK = f"{__name__}:volume_task"
PICTURE_SPACING_MM = 1.5
PICTURE_FIELD_MM = (192.0, 224.0, 204.0)
# Fluid deeper than this is ventricle; it may reach so far beyond, but not so near the surface.
_DEEP_MM, _REACH_MM, _SHALLOW_MM = 25.0, 12.0, 16.0


def volume_task(argument: Json) -> Json:
    """Measure a scan's volumes, between JSON objects, as child processes do.

    Parameters
    ----------
    argument : dict
        `path` and `scan_id`, `settings` of preprocessing, and `cache`, which keeps where the brain
        lies.

    Returns
    -------
    dict
        `verdict`, `reason`, and `volumes_ml` of a scan that did not fail.
    """
    source = ScanSource(argument["path"], argument["scan_id"])
    settings = PreprocessingConfig.model_validate(argument["settings"])
    try:
        read = process_source(source, settings, PreparedStore(Path(argument["cache"])))
        verdict, reasons = read.processed.verdict, read.processed.reasons
        reason = "; ".join(filter(None, [*reasons, read.scan.note]))
        if verdict == "failed":
            return {"verdict": verdict, "reason": reason}
        pictured = picture_scan(read, settings, source.scan_id)
        return {"verdict": verdict, "reason": reason, "volumes_ml": own_volumes_ml(pictured)}
    except (VolumeError, PreparationError) as error:
        return {"verdict": "failed", "reason": error.reason}
    except (StoreError, ConfigError) as error:  # not the scan's fault
        return {"fault": [error.where, error.problem, error.remedy]}


def picture_scan(read: ProcessedSource, settings: PreprocessingConfig, where: str) -> Processed:
    """Bring a scan to the grid of the report's pictures, from which volumes are measured too."""
    fine, done = settings.on_grid(PICTURE_SPACING_MM, PICTURE_FIELD_MM), read.processed
    return process_again(read.scan.volume, done.placement, done.measures, fine, where)


def own_volumes_ml(pictured: Processed) -> dict[str, float]:
    """Measure volumes in the scan's own space: those in MNI space over registration's scale."""
    scale = abs(float(np.linalg.det(pictured.transform[:3, :3])))
    found = measure_volumes(pictured.image, pictured.mask)
    return {name: ml / scale for name, ml in found.items()}


def measure_volumes(image: Volume, mask: BoolArray) -> dict[str, float]:
    """Measure grey matter, white matter, fluid and ventricles in MNI space, in millilitres.

    Ventricles are a part of the fluid. Volumes of the person's own brain are these over the scale
    of the registration.

    Parameters
    ----------
    image : Volume
        Intensities on a grid in MNI space, bias field removed.
    mask : numpy.ndarray of bool
        Brain on that grid.
    """
    template = load_template(TISSUE_SPACING_MM)
    shape = template.mask.shape
    inside = np.where(mask, image.data, np.float32(0))
    share = resample_volume(Volume(mask.astype(np.float32), image.affine), template.affine, shape)
    data = resample_volume(Volume(inside, image.affine), template.affine, shape)
    brain = share >= 0.5
    values = (data[brain] / share[brain]).astype(np.float64)
    values = (values - values.mean()) / values.std()
    priors, region = load_soft_tissues()
    _, shares = share_tissue(values, priors[:, brain].astype(np.float64))
    voxel_ml = TISSUE_SPACING_MM**3 / 1000
    found = {name: float(part.sum()) * voxel_ml for name, part in zip(TISSUES, shares, strict=True)}
    found["ventricles"] = float(shares[2][region[brain]].sum()) * voxel_ml
    return found


@lru_cache(maxsize=1)
def load_soft_tissues() -> tuple[FloatArray, BoolArray]:
    """Load the template's tissues (3, I, J, K), softened, and where ventricles may be."""
    template = load_template(TISSUE_SPACING_MM)
    white, grey = load_tissues()
    fluid = 1 - white - grey
    depth_mm = -template.distance_mm
    deep = (fluid > 0.5) & (depth_mm > _DEEP_MM)
    reach = ndimage.distance_transform_edt(~deep) * TISSUE_SPACING_MM <= _REACH_MM
    soft = [ndimage.gaussian_filter(part, 1.0) for part in (grey, white, fluid)]
    return np.stack(soft), reach & (depth_mm > _SHALLOW_MM)
