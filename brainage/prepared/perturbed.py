"""Prepare a changed scan from a file of its own, as any scan is read."""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from brainage.config import PreprocessingConfig
from brainage.errors import ConfigError, PreparationError, StoreError, VolumeError
from brainage.prepared.arrays import PreparedScan, load_scan, pack_scan, prepare_scan
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource, check_unchanged, hash_source
from brainage.prepared.store import PreparedStore, entry_key
from brainage.preprocessing.mni import resample_volume
from brainage.preprocessing.perturbations import BY_NAME, UNCHANGED, Original
from brainage.scans.open import read_scan
from brainage.types import BoolArray, Json, Volume

TASK = f"{__name__}:perturb_task"


def describe_change(
    path: str,
    scan_id: str,
    name: str,
    seed: int | list[int],
    settings: PreprocessingConfig,
    cache: Path,
) -> Json:
    """Argument of `perturb_task`: scan, perturbation, and the seed of what is random in it."""
    return {
        "path": str(Path(path).absolute()),
        "scan_id": scan_id,
        "name": name,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "cache": str(cache.absolute()),
    }


def perturbed_key(argument: Json, scan_hash: str) -> str:
    """Key of the changed scan's array in the store, from the `hash_source` of the scan."""
    settings = PreprocessingConfig.model_validate(argument["settings"])
    change = [argument["name"], argument["seed"]]
    return entry_key("array", scan_hash, settings, perturbation=change)


def perturb_task(argument: Json) -> Json:
    """Change a scan, write it as NIfTI of its own, prepare that and keep it, as children do.

    Returns
    -------
    dict
        `key` in the store; of a scan that cannot be used `reason`.
    """
    store = PreparedStore(Path(argument["cache"]))
    settings = PreprocessingConfig.model_validate(argument["settings"])
    source = ScanSource(argument["path"], argument["scan_id"])
    try:
        scan_hash = hash_source(source)
        key = perturbed_key(argument, scan_hash)
        if load_scan(store, key, settings) is None:
            scan = _prepare_changed(argument, settings, store)
            check_unchanged(source, scan_hash)
            store.save("array", key, *pack_scan(scan))
    except (VolumeError, PreparationError) as error:
        return {"reason": error.reason}
    except (StoreError, ConfigError) as error:  # not the scan's fault
        return {"fault": [error.where, error.problem, error.remedy]}
    return {"key": key}


def _prepare_changed(
    argument: Json, settings: PreprocessingConfig, store: PreparedStore
) -> PreparedScan:
    where, change = argument["scan_id"], BY_NAME[argument["name"]]
    with tempfile.TemporaryDirectory(prefix="brainage-perturbed-") as folder:

        def write(volume: Volume, name: str) -> ScanSource:
            path = Path(folder, name)
            nib.save(nib.Nifti1Image(volume.data, volume.affine), path)
            return ScanSource(str(path), where)

        def find_brain() -> BoolArray:
            source = write(volume, "unchanged.nii")
            mask = process_source(source, settings, store).processed.placement.mask
            return resample_volume(mask, volume.affine, volume.data.shape) >= 0.5

        volume = read_scan(argument["path"], where, series=settings.series).volume
        rng = np.random.default_rng(argument["seed"])
        changed = change.apply(Original(volume, rng, find_brain))
        # The places of changed scans are of no further use.
        kept = store if change.name == UNCHANGED else None
        return prepare_scan(write(changed, "scan.nii"), settings, kept)
