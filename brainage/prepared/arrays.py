"""From scans on disk to the arrays that networks see, prepared once and kept.

A prepared array is stored under a hash of the scan's bytes, the settings and
`PREPARATION_VERSION`, so that a changed file or setting can never be served an old array.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainage.config import PreprocessingConfig
from brainage.errors import (
    BrainageError,
    ConfigError,
    PreparationError,
    StoreError,
    VolumeError,
)
from brainage.files import DAMAGE_ERRORS, parse_json, read_sealed, reserve, write_sealed
from brainage.prepared.source import (
    ScanSource,
    hash_source,
    process_source,
    read_sidecar,
    refuse_changed,
)
from brainage.preprocessing.intensity import (
    normalise_in_brain,
    normalise_local,
    normalise_tissue,
)
from brainage.preprocessing.pipeline import Processed
from brainage.preprocessing.quality import limits_hash
from brainage.preprocessing.threads import one_thread
from brainage.sandbox.engines import Engine, run_tasks
from brainage.scans.derivative_names import find_derivative
from brainage.types import HalfArray, Json, LedgerEntry, Verdict

# Raise whenever the same file and settings would give another array.
PREPARATION_VERSION = 4
TASK = f"{__name__}:prepare_task"

# Cohorts above this are memory-mapped; 2 GiB holds 13,900 scans of 40 x 48 x 40.
MEMORY_BOUND_BYTES = 2**31

_BY_CONTRAST = {"tissue": normalise_tissue, "local": normalise_local}
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


def prepare_scan(
    source: ScanSource, settings: PreprocessingConfig, cache_dir: Path | None = None
) -> PreparedScan:
    """Read, process, check and normalise one scan; placements alone are cached.

    Raises
    ------
    VolumeError
        If the scan or its mask cannot be read.
    PreparationError
        If no brain is found, or the quality gate fails the scan.
    """
    processed = process_source(source, settings, cache_dir).processed
    scan = normalise(processed, settings, source.where)
    label = find_derivative(source.path).label
    if not label or processed.recognised == "prepared brain":
        return scan
    return replace(scan, recognised=f"{scan.recognised} ({label})")


@one_thread()
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


def content_hash(source: ScanSource, settings: PreprocessingConfig) -> str:
    """SHA-256 of a scan's bytes, its mask, the sidecar that vouches for it, and the settings.

    Raises
    ------
    VolumeError
        If a file is missing or cannot be read.
    """
    sidecar = None if source.mask or source.command else read_sidecar(source.path)
    parts = (settings_hash(settings), hash_source(source), json.dumps(sidecar, sort_keys=True))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
        payload = read_sealed(self.path(key))
        if payload is None:
            return None
        stream = io.BytesIO(payload)
        try:
            array = np.load(stream, allow_pickle=False)
            record = parse_json(stream.read())
            scan = PreparedScan(array, **{**record, "reasons": tuple(record["reasons"])})
        except DAMAGE_ERRORS:
            return None
        return scan if array.shape == shape and array.dtype == np.float16 else None

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
            write_sealed(self.path(key), payload)
        except BrainageError as error:
            raise StoreError(error.where, error.problem, _OTHER_CACHE) from error


@dataclass(frozen=True)
class Preparation:
    """How a cohort is prepared.

    Attributes
    ----------
    engine : Engine, optional
        Child processes to work in, so that a crash is a row of the ledger; None works in this one.
    masks : tuple of str
        Brain mask of each scan, or empty; () where there are none.
    command : str
        Brain extraction command for scans without a mask, or empty.
    memory_bound_bytes : int
        Above it, arrays are memory-mapped from one file in the cache.
    """

    engine: Engine | None = None
    masks: tuple[str, ...] = ()
    command: str = ""
    memory_bound_bytes: int = MEMORY_BOUND_BYTES


HERE = Preparation()
"""One scan after another, in this process."""


def prepare_cohort(
    paths: Sequence[str],
    scan_ids: Sequence[str],
    settings: PreprocessingConfig,
    cache_dir: Path,
    *,
    how: Preparation = HERE,
    on_progress: Callable[[int, int], None] | None = None,
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

    Raises
    ------
    StoreError
        If the cache cannot be written.
    """
    store = PreparedStore(Path(cache_dir))
    masks = how.masks or ("",) * len(paths)
    sources = [
        ScanSource(path, scan_id, mask, "" if mask else how.command)
        for path, scan_id, mask in zip(paths, scan_ids, masks, strict=True)
    ]
    found: dict[int, tuple[str, LedgerEntry]] = {}
    for position, result in _prepare_all(sources, settings, store, how.engine):
        found[position] = result
        if on_progress is not None:
            on_progress(len(found), len(paths))
    entries = [found[position][1] for position in range(len(paths))]
    used = [index for index, entry in enumerate(entries) if entry.verdict != "failed"]
    keys = [found[position][0] for position in used]
    arrays = _gather(store, keys, settings.shape, how.memory_bound_bytes)
    return PreparedScans(arrays, np.array(used, dtype=np.int64), entries)


def load_or_prepare(
    store: PreparedStore, source: ScanSource, settings: PreprocessingConfig
) -> tuple[str, PreparedScan]:
    """Content hash and prepared scan, computed and stored if the store lacks it.

    Raises
    ------
    VolumeError, PreparationError
        As `prepare_scan` does.
    StoreError
        If the folder cannot be written.
    """
    key = content_hash(source, settings)
    scan = store.load(key, settings.shape)
    if scan is None:
        scan = prepare_scan(source, settings, store.folder)
        refuse_changed(source, content_hash(source, settings) == key)
        store.save(key, scan)
    return key, scan


def prepare_task(argument: Json) -> Json:
    """Prepare a scan into the store, between JSON objects: what child processes run."""
    source, start = ScanSource(**argument["source"]), time.perf_counter()
    settings = PreprocessingConfig.model_validate(argument["settings"])
    store = PreparedStore(Path(argument["cache"]))
    key, stage, verdict, reason = "", "prepare", "failed", ""
    try:
        key, scan = load_or_prepare(store, source, settings)
        verdict, reason = scan.verdict, "; ".join(scan.reasons)
    except VolumeError as error:
        stage, reason = "read", error.reason
    except PreparationError as error:
        reason = error.reason
    except (StoreError, ConfigError) as error:
        # The store or a setting is at fault, not the scan: the whole run must end.
        return {"fault": [error.where, error.problem, error.remedy]}
    seconds = time.perf_counter() - start
    return {"key": key, "entry": [source.scan_id, stage, verdict, reason, seconds]}


def _prepare_all(
    sources: Sequence[ScanSource],
    settings: PreprocessingConfig,
    store: PreparedStore,
    engine: Engine | None,
) -> Iterator[tuple[int, tuple[str, LedgerEntry]]]:
    """Position, key and ledger entry of every scan; children get only what the cache lacks."""
    common = {"settings": settings.model_dump(mode="json"), "cache": str(store.folder.absolute())}
    waiting = []
    for position, source in enumerate(sources):
        argument = {"source": asdict(source), **common}
        if engine is None or _is_stored(store, source, settings):
            yield position, _read_answer(prepare_task(argument))
        else:
            waiting.append((position, argument))
    if engine is None or not waiting:
        return
    for index, outcome in run_tasks(TASK, [argument for _, argument in waiting], engine):
        position = waiting[index][0]
        if outcome.result is not None:
            yield position, _read_answer(outcome.result)
            continue
        reason = f"{outcome.problem}."
        scan_id = sources[position].scan_id
        yield position, ("", LedgerEntry(scan_id, "process", "failed", reason, outcome.seconds))


def _is_stored(store: PreparedStore, source: ScanSource, settings: PreprocessingConfig) -> bool:
    try:
        return store.path(content_hash(source, settings)).is_file()
    except VolumeError:
        return False  # a child will say what is wrong with it


def _read_answer(answer: Json) -> tuple[str, LedgerEntry]:
    if "fault" in answer:
        raise StoreError(*answer["fault"])
    return answer["key"], LedgerEntry(*answer["entry"])


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
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        with path.open("r+b") as file:
            reserve(file.fileno(), path.stat().st_size)
        return mapped
    except OSError as error:
        problem = f"the cache cannot be written ({error.strerror})."
        raise StoreError(str(folder), problem, _OTHER_CACHE) from error
