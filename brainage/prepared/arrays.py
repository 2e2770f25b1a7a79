"""Prepare scans to the arrays that networks see, once, and gather them for a cohort."""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainage.config import PreprocessingConfig
from brainage.errors import ConfigError, PreparationError, StoreError, VolumeError
from brainage.files import reserve
from brainage.prepared.placement import process_source, with_note
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import Files, PreparedStore, entry_key
from brainage.preprocessing.contrast import normalise_in_brain
from brainage.preprocessing.intensity import normalise_local, normalise_tissue
from brainage.preprocessing.pipeline import Processed
from brainage.preprocessing.threads import one_thread
from brainage.sandbox.engines import Engine, run_tasks
from brainage.scans.derivative_names import find_derivative
from brainage.types import HalfArray, Json, LedgerEntry, Verdict

TASK = f"{__name__}:prepare_task"
ARRAY = "array.npy"

# Cohorts above this are memory-mapped; 2 GiB holds 13,900 scans of 40 x 48 x 40.
MEMORY_BOUND_BYTES = 2**31

_BY_CONTRAST = {"tissue": normalise_tissue, "local": normalise_local}
_LOOK = "Look at the scan; give another one, or a brain mask."


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
    """One scan as the network sees it, with the verdict of the quality gate.

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
    note : str
        What reading the scan told: see `brainage.scans.open.Scan`.
    """

    array: HalfArray
    recognised: str
    verdict: Verdict
    reasons: tuple[str, ...]
    measures: dict[str, float]
    note: str = ""


def prepare_scan(
    source: ScanSource,
    settings: PreprocessingConfig,
    store: PreparedStore | None = None,
    scan_hash: str = "",
) -> PreparedScan:
    """Read, process, check and normalise one scan; placements alone are kept.

    Parameters
    ----------
    store, scan_hash
        As in `process_source`.

    Raises
    ------
    VolumeError
        If the scan or its mask cannot be read.
    PreparationError
        If no brain is found, or the quality gate fails the scan.
    """
    done = process_source(source, settings, store, scan_hash)
    processed, note = done.processed, done.scan.note
    try:
        scan = replace(normalise(processed, settings, source.where), note=note)
    except PreparationError as error:
        raise with_note(error, note) from error
    label = find_derivative(source.path).label
    if not label or processed.recognised == "prepared brain":
        return scan
    return replace(scan, recognised=f"{scan.recognised} ({label})")


@one_thread()
def normalise(processed: Processed, settings: PreprocessingConfig, where: str) -> PreparedScan:
    """Normalise a processed scan to the intensities that the settings want.

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


def pack_scan(scan: PreparedScan) -> tuple[Json, Files]:
    """Pack a prepared scan for the store."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(scan.array), allow_pickle=False)
    about = {f.name: getattr(scan, f.name) for f in fields(scan) if f.name != "array"}
    return about, {ARRAY: stream.getvalue()}


def load_scan(store: PreparedStore, key: str, settings: PreprocessingConfig) -> PreparedScan | None:
    """Load a prepared scan of the settings' shape; None where the store lacks it."""

    def unpack(about: Json, files: Files) -> PreparedScan:
        array = np.load(io.BytesIO(files[ARRAY]), allow_pickle=False)
        if array.shape != settings.shape or array.dtype != np.float16:
            raise ValueError("the array has another shape or type")
        return PreparedScan(array, **{**about, "reasons": tuple(about["reasons"])})

    return store.load("array", key, unpack)


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
        Folder of the `PreparedStore`, made when missing.
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
    arrays = gather(store, keys, settings, how.memory_bound_bytes)
    return PreparedScans(arrays, np.array(used, dtype=np.int64), entries)


def load_or_prepare(
    store: PreparedStore, source: ScanSource, settings: PreprocessingConfig
) -> tuple[str, PreparedScan]:
    """Load a prepared scan and its key; prepare and keep it if the store lacks it.

    Raises
    ------
    VolumeError, PreparationError
        As `prepare_scan` does.
    StoreError
        If the folder cannot be written.
    """
    scan_hash = hash_source(source)
    key = entry_key("array", scan_hash, settings)
    scan = load_scan(store, key, settings)
    if scan is None:
        scan = prepare_scan(source, settings, store, scan_hash)
        store.save("array", key, *pack_scan(scan))
    return key, scan


def prepare_task(argument: Json) -> Json:
    """Prepare a scan into the store, between JSON objects, as child processes do."""
    source, start = ScanSource(**argument["source"]), time.perf_counter()
    settings = PreprocessingConfig.model_validate(argument["settings"])
    notes: list[str] = []
    store = PreparedStore(Path(argument["cache"]), notes.append)
    key, stage, verdict, reason = "", "prepare", "failed", ""
    try:
        key, scan = load_or_prepare(store, source, settings)
        verdict, reason = (
            scan.verdict,
            "; ".join([*scan.reasons, *filter(None, [scan.note]), *notes]),
        )
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
        return store.path("array", entry_key("array", hash_source(source), settings)).is_dir()
    except VolumeError:
        return False  # a child will say what is wrong with it


def _read_answer(answer: Json) -> tuple[str, LedgerEntry]:
    if "fault" in answer:
        raise StoreError(*answer["fault"])
    return answer["key"], LedgerEntry(*answer["entry"])


def gather(
    store: PreparedStore,
    keys: Sequence[str],
    settings: PreprocessingConfig,
    memory_bound_bytes: int = MEMORY_BOUND_BYTES,
) -> HalfArray:
    """Stack stored arrays into one (N, I, J, K), in memory or, if too large, in a mapped file.

    Raises
    ------
    StoreError
        If one has vanished, or the cache cannot be written.
    """
    shape = (len(keys), *settings.shape)
    fits = 2 * int(np.prod(shape)) <= memory_bound_bytes
    arrays = np.empty(shape, np.float16) if fits else _map_array(store.folder, shape)
    for row, key in enumerate(keys):
        scan = load_scan(store, key, settings)
        if scan is None:
            problem = "vanished while in use."
            raise StoreError(str(store.path("array", key)), problem, "Prepare again.")
        arrays[row] = scan.array
    return arrays


def _map_array(folder: Path, shape: tuple[int, ...]) -> HalfArray:
    try:
        # Unlinked as soon as it is mapped: a killed run leaves nothing behind.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".arrays") as file:
            reserve(file.fileno(), 2 * int(np.prod(shape)))
            return np.memmap(file, dtype=np.float16, mode="w+", shape=shape)
    except OSError as error:
        problem = f"the cache cannot be written ({error.strerror})."
        remedy = "Free disk space or choose another cache folder."
        raise StoreError(str(folder), problem, remedy) from error
