"""Phantoms taken as they lie, for tests of what comes after preprocessing."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.prepared.arrays import PreparedScan, normalise, pack_scan
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import PreparedStore, entry_key
from brainage.preprocessing.locate import Placement
from brainage.preprocessing.pipeline import process_again
from brainage.scans.volume import load_volume
from brainage.types import Volume


def prepare_phantom(path: str, settings: PreprocessingConfig) -> PreparedScan:
    """Normalise a phantom without looking for its brain and judging it: it lies in MNI space."""
    volume = load_volume(path)
    mask = Volume((volume.data > 0).astype(np.float32), volume.affine)
    placement = Placement("mni brain", mask, np.eye(4))
    processed = process_again(volume, placement, {}, settings, path, ("ok", ()))
    return normalise(processed, settings, path)


def fill_cache(paths: Iterable[str], settings: PreprocessingConfig, cache: Path) -> Path:
    """Put phantoms into a cache of the test's own, so that commands find them prepared there."""
    store = PreparedStore(cache)
    for path in paths:
        key = entry_key("array", hash_source(ScanSource(path)), settings)
        store.save("array", key, *pack_scan(prepare_phantom(path, settings)))
    return cache
