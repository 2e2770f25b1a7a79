"""Copies of training scans as strangers might send them, prepared like any scan."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from brainage.config import PreprocessingConfig
from brainage.errors import StoreError
from brainage.prepared.arrays import gather
from brainage.prepared.perturbed import TASK, describe_change, perturbed_key
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import PreparedStore, entry_key
from brainage.preprocessing.perturbations import STRANGER
from brainage.sandbox.engines import Engine, run_tasks
from brainage.types import HalfArray


def prepare_strangers(
    paths: Sequence[str],
    scan_ids: Sequence[str],
    settings: PreprocessingConfig,
    cache_dir: Path,
    copies: int,
    engine: Engine,
    on_progress: Callable[[int, int], None],
) -> tuple[HalfArray, int]:
    """Prepare copies of scans, each changed by `meet_stranger`, or take them from the cache.

    Parameters
    ----------
    paths, scan_ids : sequence of str (N,)
        Scans that the cache holds, and their names, which the draws depend on.
    copies : int
        How many of each scan.
    on_progress : callable
        Called with (copies done, copies in all).

    Returns
    -------
    numpy.ndarray of float16 (N, copies, I, J, K)
        For a copy that cannot be used stands its scan as it is.
    int
        How many cannot be used.

    Raises
    ------
    StoreError
        If the cache cannot be written.
    """
    store = PreparedStore(cache_dir)
    hashes = [hash_source(ScanSource(*scan)) for scan in zip(paths, scan_ids, strict=True)]
    tasks = [
        describe_change(path, name, STRANGER, _seed(name, number), settings, cache_dir)
        for path, name in zip(paths, scan_ids, strict=True)
        for number in range(copies)
    ]
    keys = [perturbed_key(task, hashes[row // copies]) for row, task in enumerate(tasks)]
    missing = [row for row, key in enumerate(keys) if not store.path("array", key).is_dir()]
    answers, bad = run_tasks(TASK, [tasks[row] for row in missing], engine), 0
    for done, (position, outcome) in enumerate(answers, start=len(tasks) - len(missing) + 1):
        answer, row = outcome.result or {}, missing[position]
        if "fault" in answer:
            raise StoreError(*answer["fault"])
        if "key" not in answer:
            keys[row] = entry_key("array", hashes[row // copies], settings)
            bad += 1
        on_progress(done, len(tasks))
    found = gather(store, keys, settings)
    return found.reshape(len(paths), copies, *settings.shape), bad


def _seed(scan_id: str, number: int) -> int:
    return zlib.crc32(f"{scan_id}-{number}".encode())
