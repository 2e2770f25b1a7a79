"""From scans on disk to the arrays that networks see, prepared once and kept.

A prepared array is stored under a hash of the scan's bytes, the settings and
`PREPARATION_VERSION`, so that a changed file or setting can never be served an old array.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainage.config import PreprocessingConfig
from brainage.data.transforms import normalise_in_brain
from brainage.data.volume import load_volume, scan_files
from brainage.errors import BrainageError, PreparationError, StoreError, VolumeError
from brainage.files import atomic_write_bytes, sha256_file
from brainage.preprocessing.mni import prepare_volume
from brainage.types import HalfArray, LedgerEntry

# Raise whenever the same file and settings would give another array.
PREPARATION_VERSION = 1

# Cohorts above this are memory-mapped; 2 GiB holds 13,900 scans of 40 x 48 x 40.
MEMORY_BOUND_BYTES = 2**31

_DIGEST_BYTES = 32
_OTHER_CACHE = "Free disk space or choose another cache folder."


@dataclass(frozen=True)
class PreparedScans:
    """The usable scans of a cohort and what became of all of them.

    Attributes
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K)
        Prepared scans, in the order of the input.
    kept : numpy.ndarray of int64 (N,)
        Which inputs they are.
    entries : list of LedgerEntry
        One per input, in the order of the input.
    """

    arrays: HalfArray
    kept: NDArray[np.int64]
    entries: list[LedgerEntry]


def prepare_scan(
    path: str | Path, settings: PreprocessingConfig, name: str | None = None
) -> HalfArray:
    """Read, check, resample and normalise one scan, without any cache.

    Returns
    -------
    numpy.ndarray of float16, of the settings' shape
        Standard deviations of the brain's intensities; 0 outside the brain.

    Raises
    ------
    VolumeError
        If the scan cannot be read.
    PreparationError
        If it is not a brain-extracted T1 scan in MNI space.
    """
    where = name if name is not None else str(path)
    data, mask = prepare_volume(load_volume(path, where), settings, where)
    return normalise_in_brain(data, mask, where).astype(np.float16)


def settings_hash(settings: PreprocessingConfig) -> str:
    """SHA-256 of the settings and `PREPARATION_VERSION`: equal hash, equal preparation."""
    content = {"version": PREPARATION_VERSION, "settings": settings.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def content_hash(path: str | Path, settings: PreprocessingConfig, name: str | None = None) -> str:
    """SHA-256 of all bytes of a scan (both files of a pair) and of its settings.

    Raises
    ------
    VolumeError
        If a file is missing or cannot be read.
    """
    digest = hashlib.sha256(settings_hash(settings).encode())
    for file in scan_files(path, name):
        try:
            digest.update(sha256_file(file).encode())
        except BrainageError as error:
            where = name if name is not None else str(path)
            raise VolumeError(where, error.problem, error.remedy) from error
    return digest.hexdigest()


@dataclass(frozen=True)
class PreparedStore:
    """A folder of prepared arrays, one file a scan, named by content hash.

    Each file is a .npy array followed by the SHA-256 of its bytes. Files appear whole or not at
    all, so that several runs may share a folder and a kill loses nothing finished.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """Where the array of a content hash lies."""
        return self.folder / key[:2] / f"{key}.npy"

    def load(self, key: str, shape: tuple[int, int, int]) -> HalfArray | None:
        """Array of a content hash; None where it is missing, damaged or of another shape."""
        try:
            stored = self.path(key).read_bytes()
        except OSError:
            return None
        payload, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        array = np.load(io.BytesIO(payload), allow_pickle=False)
        return array if array.shape == shape and array.dtype == np.float16 else None

    def save(self, key: str, array: HalfArray) -> None:
        """Store an array under its content hash.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        payload = buffer.getvalue()
        try:
            atomic_write_bytes(self.path(key), payload + hashlib.sha256(payload).digest())
        except BrainageError as error:
            raise StoreError(error.where, error.problem, _OTHER_CACHE) from error


def prepare_cohort(
    paths: Sequence[str],
    scan_ids: Sequence[str],
    settings: PreprocessingConfig,
    cache_dir: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    memory_bound_bytes: int = MEMORY_BOUND_BYTES,
) -> PreparedScans:
    """Prepare every scan, or take it from the cache; a failing scan is an entry, not an error.

    Parameters
    ----------
    paths, scan_ids : sequence of str (N,)
        Scans and their names in the ledger.
    cache_dir : pathlib.Path
        Folder of a `PreparedStore`, made when missing.
    on_progress : callable, optional
        Called with (scans done, scans in all) after each scan.
    memory_bound_bytes : int
        Above it, arrays are memory-mapped from one file in the cache.

    Raises
    ------
    StoreError
        If the cache cannot be written.
    """
    store = PreparedStore(Path(cache_dir))
    entries: list[LedgerEntry] = []
    keys: dict[int, str] = {}
    for index, (path, scan_id) in enumerate(zip(paths, scan_ids, strict=True)):
        key, entry = _prepare_into(store, path, scan_id, settings)
        entries.append(entry)
        if key is not None:
            keys[index] = key
        if on_progress is not None:
            on_progress(index + 1, len(paths))
    arrays = _gather(store, list(keys.values()), settings.shape, memory_bound_bytes)
    return PreparedScans(arrays, np.array(list(keys), dtype=np.int64), entries)


def load_or_prepare(
    store: PreparedStore, path: str | Path, settings: PreprocessingConfig, name: str | None = None
) -> tuple[str, HalfArray]:
    """Content hash and prepared array of a scan, computed and stored if the store lacks it.

    Raises
    ------
    VolumeError, PreparationError
        As `prepare_scan` does.
    StoreError
        If the folder cannot be written.
    """
    key = content_hash(path, settings, name)
    array = store.load(key, settings.shape)
    if array is None:
        array = prepare_scan(path, settings, name)
        store.save(key, array)
    return key, array


def _prepare_into(
    store: PreparedStore, path: str, scan_id: str, settings: PreprocessingConfig
) -> tuple[str | None, LedgerEntry]:
    start = time.perf_counter()

    def entry(stage: str, error: BrainageError | None = None) -> LedgerEntry:
        seconds = time.perf_counter() - start
        if error is None:
            return LedgerEntry(scan_id, stage, "ok", "", seconds)
        return LedgerEntry(scan_id, stage, "failed", error.reason, seconds)

    try:
        key, _ = load_or_prepare(store, path, settings, scan_id)
    except VolumeError as error:
        return None, entry("read", error)
    except PreparationError as error:
        return None, entry("prepare", error)
    return key, entry("prepare")


def _gather(
    store: PreparedStore, keys: list[str], shape: tuple[int, int, int], memory_bound_bytes: int
) -> HalfArray:
    """Stack stored arrays into one (N, I, J, K), in memory or, if too large, in a mapped file."""
    full = (len(keys), *shape)
    fits = 2 * int(np.prod(full)) <= memory_bound_bytes
    arrays = np.empty(full, np.float16) if fits else _open_map(store.folder, keys, full)
    for row, key in enumerate(keys):
        array = store.load(key, shape)
        if array is None:
            raise StoreError(str(store.path(key)), "vanished while in use.", "Prepare again.")
        arrays[row] = array
    return arrays


def _open_map(folder: Path, keys: list[str], shape: tuple[int, ...]) -> HalfArray:
    name = hashlib.sha256("".join(keys).encode()).hexdigest()
    path = folder / "cohorts" / f"{name}.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Filled anew each time from the checked arrays, under a new inode: another run that has
        # the old file mapped keeps reading what it mapped.
        path.unlink(missing_ok=True)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    except OSError as error:
        problem = f"the cache cannot be written ({error.strerror})."
        raise StoreError(str(folder), problem, _OTHER_CACHE) from error
