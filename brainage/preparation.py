"""From scans on disk to the arrays that networks see, prepared once and kept.

A prepared array is stored under a hash of the scan's bytes, the settings and
`PREPARATION_VERSION`, so that a changed file or setting can never be served an old array.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainage.config import PreprocessingConfig
from brainage.data.extraction import load_mask
from brainage.data.recognise import find_derivative
from brainage.data.scans import open_scan, source_files
from brainage.data.transforms import normalise_in_brain
from brainage.errors import BrainageError, PreparationError, StoreError, VolumeError
from brainage.files import atomic_write_bytes, sha256_file
from brainage.preprocessing.intensity import normalise_local, normalise_tissue
from brainage.preprocessing.pipeline import Processed, process_volume
from brainage.preprocessing.quality import limits_hash
from brainage.types import HalfArray, LedgerEntry, Verdict

# Raise whenever the same file and settings would give another array.
PREPARATION_VERSION = 2

# Cohorts above this are memory-mapped; 2 GiB holds 13,900 scans of 40 x 48 x 40.
MEMORY_BOUND_BYTES = 2**31

_BY_CONTRAST = {"tissue": normalise_tissue, "local": normalise_local}
_DIGEST_BYTES = 32
_LOOK = "Look at the scan; give another one, or a brain mask."
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


@dataclass(frozen=True)
class PreparedScan:
    """One scan as the network sees it, with the quality gate's word on it.

    Attributes
    ----------
    array : numpy.ndarray of float16, of the settings' shape
        Intensities as `preprocessing.intensity` says; 0 outside the brain.
    recognised : str
        What the scan was taken for.
    verdict : {"ok", "flagged"}
        Failed scans have no array.
    reasons : tuple of str
        Why it was flagged.
    measures : dict of str to float
        Named values of the quality gate.
    """

    array: HalfArray
    recognised: str
    verdict: Verdict
    reasons: tuple[str, ...]
    measures: dict[str, float]


def process_scan(
    path: str | Path,
    settings: PreprocessingConfig,
    name: str | None = None,
) -> Processed:
    """Read one scan, find its brain or take a derivative's own mask, and judge the result.

    Raises
    ------
    VolumeError
        If the scan or its mask cannot be read.
    PreparationError
        If no brain is found. A brain that is not trusted has the verdict `failed`.
    """
    where = name if name is not None else str(path)
    volume = open_scan(path, where, series=settings.series)
    beside = find_derivative(path).mask
    mask = None if beside is None else load_mask(beside, f"{where}: {beside.name}")
    return process_volume(volume, settings, where, mask=mask)


def prepare_scan(
    path: str | Path,
    settings: PreprocessingConfig,
    name: str | None = None,
) -> PreparedScan:
    """Read, process, check and normalise one scan, without any cache.

    Raises
    ------
    VolumeError
        If the scan cannot be read.
    PreparationError
        If no brain is found, or the quality gate fails the scan.
    """
    where = name if name is not None else str(path)
    scan = normalise(process_scan(path, settings, name), settings, where)
    label = find_derivative(path).label
    return replace(scan, recognised=f"{scan.recognised} ({label})") if label else scan


def normalise(processed: Processed, settings: PreprocessingConfig, where: str) -> PreparedScan:
    """Array of a processed scan, its intensities as the settings want them.

    Raises
    ------
    PreparationError
        If the quality gate failed it, or its brain has no contrast.
    """
    if processed.verdict == "failed":
        problem = f"is no usable T1 scan ({processed.recognised}): {'; '.join(processed.reasons)}."
        raise PreparationError(where, problem, _LOOK)
    data, mask = processed.image.data, processed.mask
    if settings.intensity == "brain":
        array = normalise_in_brain(data, mask, where)
    else:
        array = _BY_CONTRAST[settings.intensity](data, mask, settings, where)
    return PreparedScan(
        array.astype(np.float16),
        processed.recognised,
        processed.verdict,
        processed.reasons,
        processed.measures,
    )


def settings_hash(settings: PreprocessingConfig) -> str:
    """SHA-256 of settings, quality limits and `PREPARATION_VERSION`: equal hash, equal result."""
    content = {
        "version": PREPARATION_VERSION,
        "limits": limits_hash(),
        "settings": settings.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def content_hash(
    path: str | Path,
    settings: PreprocessingConfig,
    name: str | None = None,
) -> str:
    """SHA-256 of all bytes of a scan (a pair, a whole folder), its mask and its settings.

    Raises
    ------
    VolumeError
        If a file is missing or cannot be read.
    """
    digest = hashlib.sha256(settings_hash(settings).encode())
    beside = find_derivative(path).mask
    for file in (*source_files(path, name), *([] if beside is None else [beside])):
        try:
            digest.update(sha256_file(file).encode())
        except BrainageError as error:
            where = name if name is not None else str(path)
            raise VolumeError(where, error.problem, error.remedy) from error
    return digest.hexdigest()


@dataclass(frozen=True)
class PreparedStore:
    """A folder of prepared arrays, one file a scan, named by content hash.

    Each file is a .npy array, then JSON with the quality gate's word on it, then the SHA-256 of
    both. Files appear whole or not at all, so that several runs may share a folder and a kill
    loses nothing finished.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """Where the array of a content hash lies."""
        return self.folder / key[:2] / f"{key}.npy"

    def load(self, key: str, shape: tuple[int, int, int]) -> PreparedScan | None:
        """Scan of a content hash; None where it is missing, damaged or of another shape."""
        try:
            stored = self.path(key).read_bytes()
        except OSError:
            return None
        payload, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        stream = io.BytesIO(payload)
        array = np.load(stream, allow_pickle=False)
        if array.shape != shape or array.dtype != np.float16:
            return None
        record = json.loads(stream.read())
        return PreparedScan(array, **{**record, "reasons": tuple(record["reasons"])})

    def save(self, key: str, scan: PreparedScan) -> None:
        """Store a scan under its content hash.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(scan.array), allow_pickle=False)
        record = {f.name: getattr(scan, f.name) for f in fields(scan) if f.name != "array"}
        payload = stream.getvalue() + json.dumps(record).encode()
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
    store: PreparedStore,
    path: str | Path,
    settings: PreprocessingConfig,
    name: str | None = None,
) -> tuple[str, PreparedScan]:
    """Content hash and prepared scan, computed and stored if the store lacks it.

    Raises
    ------
    VolumeError, PreparationError
        As `prepare_scan` does.
    StoreError
        If the folder cannot be written.
    """
    key = content_hash(path, settings, name)
    scan = store.load(key, settings.shape)
    if scan is None:
        scan = prepare_scan(path, settings, name)
        store.save(key, scan)
    return key, scan


def _prepare_into(
    store: PreparedStore,
    path: str,
    scan_id: str,
    settings: PreprocessingConfig,
) -> tuple[str | None, LedgerEntry]:
    start = time.perf_counter()

    def entry(stage: str, verdict: Verdict, reason: str) -> LedgerEntry:
        return LedgerEntry(scan_id, stage, verdict, reason, time.perf_counter() - start)

    try:
        key, scan = load_or_prepare(store, path, settings, scan_id)
    except VolumeError as error:
        return None, entry("read", "failed", error.reason)
    except PreparationError as error:
        return None, entry("prepare", "failed", error.reason)
    return key, entry("prepare", scan.verdict, "; ".join(scan.reasons))


def _gather(
    store: PreparedStore, keys: list[str], shape: tuple[int, int, int], memory_bound_bytes: int
) -> HalfArray:
    """Stack stored arrays into one (N, I, J, K), in memory or, if too large, in a mapped file."""
    full = (len(keys), *shape)
    fits = 2 * int(np.prod(full)) <= memory_bound_bytes
    arrays = np.empty(full, np.float16) if fits else _open_map(store.folder, keys, full)
    for row, key in enumerate(keys):
        scan = store.load(key, shape)
        if scan is None:
            raise StoreError(str(store.path(key)), "vanished while in use.", "Prepare again.")
        arrays[row] = scan.array
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
