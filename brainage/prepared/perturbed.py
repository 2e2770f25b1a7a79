"""Prepare a changed scan from a file of its own, as any scan is read."""

import base64
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage.config import PreprocessingConfig
from brainage.errors import ConfigError, PreparationError, StoreError, VolumeError
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.perturbations import BRAIN, BY_NAME, HEAD, UNCHANGED, Original
from brainage.scans.open import read_scan
from brainage.types import BoolArray, HalfArray, Json, Volume

TASK = f"{__name__}:perturb_task"


def perturb_task(argument: Json) -> Json:
    """Change a scan, write it as NIfTI of its own, and prepare that, as child processes do.

    Parameters
    ----------
    argument : dict
        `path` and `scan_id`, `name` of the perturbation, `seed` of what is random, `settings` of
        preprocessing, and `cache`, which keeps where the brain of the unchanged scan lies.

    Returns
    -------
    dict
        `verdict`, `reason`, and of a scan that did not fail `input` and `array`.
    """
    where, change = argument["scan_id"], BY_NAME[argument["name"]]
    settings = PreprocessingConfig.model_validate(argument["settings"])
    store = PreparedStore(Path(argument["cache"]))
    with tempfile.TemporaryDirectory(prefix="brainage-perturbed-") as folder:

        def write(volume: Volume, name: str) -> ScanSource:
            path = Path(folder, name)
            nib.save(nib.Nifti1Image(volume.data, volume.affine), path)
            return ScanSource(str(path), where)

        def find_brain() -> BoolArray:
            source = write(volume, "unchanged.nii")
            mask = process_source(source, settings, store).processed.placement.mask
            return resample_volume(mask, volume.affine, volume.data.shape) >= 0.5

        try:
            volume = read_scan(argument["path"], where, series=settings.series).volume
            rng = np.random.default_rng(argument["seed"])
            changed = change.apply(Original(volume, rng, find_brain))
            # The places of changed scans are of no further use.
            kept = store if change.name == UNCHANGED else None
            scan = prepare_scan(write(changed, "scan.nii"), settings, kept)
        except (VolumeError, PreparationError) as error:
            return {"verdict": "failed", "reason": error.reason}
        except (StoreError, ConfigError) as error:  # not the scan's fault
            return {"fault": [error.where, error.problem, error.remedy]}
    return {
        "verdict": scan.verdict,
        "reason": "; ".join(filter(None, [*scan.reasons, scan.note])),
        "input": HEAD if scan.recognised == "raw head" else BRAIN,
        "array": base64.b64encode(scan.array.tobytes()).decode(),
    }


def unpack_array(text: str, settings: PreprocessingConfig) -> HalfArray:
    """Return the array (I, J, K) that `perturb_task` gave."""
    return np.frombuffer(base64.b64decode(text), np.float16).reshape(settings.shape)
