"""`brainage prepare`: raw scans in, volumes in MNI space with pictures, ledger and cohort out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainage import __version__
from brainage.cohorts.cohort import CohortReading
from brainage.config import Config, PreprocessingConfig
from brainage.errors import BrainageError, StoreError
from brainage.files import atomic_write_text, hold_folder, remove_old, sha256_file
from brainage.plotting.placement import SheetTile, build_sheet
from brainage.prepared.derivatives import (
    IMAGE,
    MASK,
    PICTURE,
    SPACE,
    TASK,
    ScanRecord,
    ScanRequest,
    place_file,
)
from brainage.prepared.sidecar import sign_sidecar
from brainage.prepared.store import PreparedStore, library_versions
from brainage.preprocessing.ledger import check_complete, summarise_ledger, write_ledger
from brainage.sandbox.engines import Engine, run_tasks
from brainage.sandbox.parent import Outcome
from brainage.scans.brain_extraction import check_command
from brainage.types import LedgerEntry
from brainage.workflows.cohorts import (
    CohortInput,
    CohortOptions,
    as_options,
    read_options,
    table_folder,
)
from brainage.workflows.console import say, scan_progress, tell_entries
from brainage.workflows.masks import find_masks
from brainage.workflows.prepare_layout import (
    COHORT,
    IMAGE_END,
    LEDGER,
    MASK_END,
    PICTURES,
    SHEET,
    check_output,
    name_scans,
    remove_stale,
    source_uri,
    write_description,
)
from brainage.workflows.results import write_table
from brainage.workflows.settings import choose_config

# The template's brain takes 144 x 180 x 154 mm; room around it, so that no other brain is cut.
FIELD_MM = (192.0, 224.0, 192.0)
# Of the source, not of what is written: they would mislead a reader of the new table.
_SOURCE_COLUMNS = ["derivative_mask"]


@dataclass(frozen=True)
class PrepareOptions:
    """Say where volumes are written, how, and with whose mask.

    Attributes
    ----------
    output : pathlib.Path
        Folder to write.
    engine : Engine
        Where scans are prepared: in this process, in child processes, or on dask.
    mask : str
        Brain masks: a column of the table, or a path with {scan_id}, {subject_id}, {session_id}.
    command : str
        Brain extraction command with {input} and {output}.
    age_from_dicom : bool
        Take PatientAge where the table has no age.
    """

    output: Path
    engine: Engine = field(default_factory=lambda: Engine("serial"))
    mask: str = ""
    command: str = ""
    age_from_dicom: bool = False


@dataclass(frozen=True)
class PreparedRow:
    """One scan of the cohort and all that came of it."""

    stem: str
    entry: LedgerEntry
    record: ScanRecord | None

    @property
    def is_used(self) -> bool:
        """Whether its volumes are written."""
        return self.entry.verdict != "failed"


def prepare(
    cohort: CohortInput,
    output: str | Path,
    config: Config | str | Path = "cnn3d_light",
    *,
    spacing_mm: float = 2.0,
    settings: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Bring raw scans to MNI space, with a verdict and a picture for each.

    Writes a BIDS derivative data set, ``cohort.csv`` for `brainage.train`, ``ledger.csv`` and a
    contact sheet. Finished scans lie in the cache and are not done again, whatever stopped an
    earlier run.

    Parameters
    ----------
    cohort : path, Cohort or CohortReading
        As in `brainage.train`; ages are not needed.
    output : path
        Folder to write: new, empty, or an earlier output.
    config : str, path or Config
        Whose preprocessing settings are taken.
    spacing_mm : float
        Edge of a voxel of the volumes.
    settings : mapping, optional
        Changes by dotted key, such as ``{"preprocessing.series": "MPRAGE"}``.
    cache : pathlib.Path, optional
        Folder of prepared scans; absent: the user's cache folder.
    **options
        Attributes of `PrepareOptions`: `engine`, `mask`, `command`, `age_from_dicom`.

    Returns
    -------
    pandas.DataFrame
        The ledger: `scan_id`, `stage`, `verdict` (ok, flagged, failed), `reason` and more, one
        row for every input.

    Raises
    ------
    BrainageError
        If cohort, options, output or cache cannot be used; a scan that fails is a ledger row.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> cohort = write_phantom_cohort(root / "phantoms", subjects=1, seed=0)
    >>> ledger = brainage.prepare(cohort, root / "prepared", spacing_mm=4)
    >>> ledger["verdict"].tolist()
    ['ok']
    >>> brainage.read_cohort(root / "prepared" / "cohort.csv").rows_in
    1
    >>> folder.cleanup()
    """
    chosen = PrepareOptions(Path(output), **options)
    resolved = choose_config(config, settings).preprocessing.on_grid(spacing_mm, FIELD_MM)
    with hold_folder(chosen.output):
        return _prepare(as_options(cohort, cache), resolved, chosen)


def _prepare(
    cohort_options: CohortOptions, settings: PreprocessingConfig, options: PrepareOptions
) -> pd.DataFrame:
    check_output(options.output)
    if options.command:
        check_command(options.command)
    reading = read_options(cohort_options, require_age=False)
    store = PreparedStore(cohort_options.cache_dir)
    requests = build_requests(reading, store, settings, options)
    rows = _run(requests, reading, store, options.engine)
    entries = [*reading.rejected, *(row.entry for row in rows)]
    check_complete(entries, reading.rows_in, sum(row.is_used for row in rows))
    write_outputs(rows, reading, store, options.output)
    write_ledger(entries, options.output / LEDGER)
    tell_entries(entries)
    summary = summarise_ledger(entries)
    say(f"{summary}; written to {options.output}")
    return pd.DataFrame([asdict(entry) for entry in entries])


def build_requests(
    reading: CohortReading,
    store: PreparedStore,
    settings: PreprocessingConfig,
    options: PrepareOptions,
) -> list[ScanRequest]:
    """One request for each scan of a cohort, in its order."""
    table = reading.cohort.table
    masks = find_masks(table, options.mask, table_folder(reading.cohort.source))
    return [
        ScanRequest(
            scan_id=scan_id,
            path=path,
            store=str(store.folder.absolute()),
            settings=settings.model_dump(mode="json"),
            mask=mask,
            command=options.command if not mask else "",
            age_from_dicom=options.age_from_dicom,
        )
        for scan_id, path, mask in zip(table["scan_id"], table["path"], masks, strict=True)
    ]


def _run(
    requests: Sequence[ScanRequest], reading: CohortReading, store: PreparedStore, engine: Engine
) -> list[PreparedRow]:
    outcomes: dict[int, Outcome] = {}
    arguments = [asdict(request) for request in requests]
    with scan_progress("preparing scans") as progress:
        progress(0, len(requests))
        for position, outcome in run_tasks(TASK, arguments, engine):
            if outcome.result is not None and "fault" in outcome.result:
                raise StoreError(*outcome.result["fault"])
            outcomes[position] = outcome
            progress(len(outcomes), len(requests))
    stems = name_scans(reading.cohort.table)
    return [
        _build_row(stems[position], request, outcomes[position], store)
        for position, request in enumerate(requests)
    ]


def _build_row(
    stem: str, request: ScanRequest, outcome: Outcome, store: PreparedStore
) -> PreparedRow:
    used = {"brainage": __version__} | library_versions()
    versions = " ".join(f"{name}={number}" for name, number in used.items())
    path_hash = hashlib.sha256(request.path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if outcome.result is None:
        entry = LedgerEntry(
            request.scan_id, "process", "failed", f"{outcome.problem}.", outcome.seconds, path_hash,
            versions,
        )  # fmt: skip
        return PreparedRow(stem, entry, None)
    record = ScanRecord(**outcome.result)
    if record.verdict != "failed" and not store.path("derivative", record.key).is_dir():
        problem = "a worker's result is not there."
        raise StoreError(str(store.folder), problem, "Give a --cache that all workers share.")
    reason = "; ".join(filter(None, (record.reason, record.note)))
    entry = LedgerEntry(
        request.scan_id, record.stage, record.verdict, reason, outcome.seconds, path_hash, versions
    )
    return PreparedRow(stem, entry, record)


def write_outputs(
    rows: Sequence[PreparedRow], reading: CohortReading, store: PreparedStore, output: Path
) -> None:
    """Lay out volumes, sidecars, pictures, contact sheet and, last, the cohort table."""
    cohort = build_cohort(rows, reading)
    source = reading.cohort.source
    write_description(output, cohort, [row.stem for row in rows if row.is_used], source)
    if not _are_placed(rows, output):
        # A table in this folder means that all its volumes are there, and of one run.
        remove_old(output / COHORT)
    remove_stale(output, [row.stem for row in rows if row.is_used])
    tiles = [SheetTile(entry) for entry in reading.rejected if entry.verdict != "surplus"]
    for row, path in zip(rows, reading.cohort.table["path"], strict=True):
        picture = b""
        if row.record is not None and PICTURE in row.record.files:
            folder, name = store.path("derivative", row.record.key), Path(row.stem).name
            picture = (folder / PICTURE).read_bytes()
            place_file(folder / PICTURE, output / PICTURES / f"{name}.png")
        if row.record is not None and row.is_used:
            place_volumes(row.record, store, output, row.stem, source_uri(path, source))
        tiles.append(SheetTile(row.entry, picture))
    atomic_write_text(output / SHEET, build_sheet(tiles, f"Prepared scans of {output.name}"))
    write_table(cohort, output / COHORT)


def _are_placed(rows: Sequence[PreparedRow], output: Path) -> bool:
    """Whether every volume of these rows lies in the output folder already."""
    try:
        return all(
            sha256_file(output / f"{row.stem}{end}.nii.gz") == row.record.files[name]
            for row in rows
            if row.is_used and row.record is not None
            for name, end in ((IMAGE, IMAGE_END), (MASK, MASK_END))
        )
    except BrainageError:
        return False


def place_volumes(
    record: ScanRecord, store: PreparedStore, output: Path, name: str, uri: str
) -> None:
    """Put a scan's volume and mask below `output` as ``NAME_space-…``, and say how they were made.

    Parameters
    ----------
    uri : str
        BIDS URI of the source, or empty.
    """
    stem = output / name
    folder = store.path("derivative", record.key)
    for source, end in ((IMAGE, IMAGE_END), (MASK, MASK_END)):
        place_file(folder / source, stem.with_name(f"{stem.name}{end}.nii.gz"))
    sources = {"Sources": [uri]} if uri else {}
    sidecar = json.dumps(sign_sidecar(record.provenance | sources), indent=2) + "\n"
    atomic_write_text(stem.with_name(f"{stem.name}{IMAGE_END}.json"), sidecar)
    image = stem.relative_to(output).with_name(f"{stem.name}{IMAGE_END}.nii.gz")
    mask_sidecar = {
        "Description": "Brain mask of the volume beside it.",
        "Type": "Brain",
        "SpatialReference": SPACE,
        "Sources": [f"bids::{image.as_posix()}"],
    }
    atomic_write_text(
        stem.with_name(f"{stem.name}{MASK_END}.json"), json.dumps(mask_sidecar, indent=2) + "\n"
    )


def build_cohort(rows: Sequence[PreparedRow], reading: CohortReading) -> pd.DataFrame:
    """Table of the scans that can be used, its paths relative to the output folder."""
    used = np.array([row.is_used for row in rows], dtype=bool)
    table = reading.cohort.table[used].drop(columns=_SOURCE_COLUMNS, errors="ignore").copy()
    kept = [row for row in rows if row.is_used]
    table["path"] = [f"{row.stem}{IMAGE_END}.nii.gz" for row in kept]
    told = [row.record.age_years if row.record else None for row in kept]
    ages = pd.Series(told, index=table.index, dtype="float64")
    table["age_years"] = table["age_years"].fillna(ages)
    return table.assign(verdict=[row.entry.verdict for row in kept])
