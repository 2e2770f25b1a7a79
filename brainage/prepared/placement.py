"""Read a scan and find its brain, or take what was found before from the store.

Where the brain lies (`Placement`) does not depend on the network's grid, so `prepare` and every
model that reads the same scan share one registration.
"""

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.errors import PreparationError
from brainage.prepared.source import ScanSource, check_unchanged, hash_source
from brainage.prepared.store import Files, PreparedStore, entry_key
from brainage.preprocessing.locate import Placement
from brainage.preprocessing.mni import MASK_STEPS
from brainage.preprocessing.pipeline import Processed, process_again, process_volume
from brainage.scans.brain_extraction import extract_brain, load_mask
from brainage.scans.open import Scan, read_scan
from brainage.types import Json, Verdict, Volume

ARRAYS = "placement.npz"

Placed = tuple[Placement, dict[str, float]]


@dataclass(frozen=True)
class ProcessedSource:
    """A processed scan, and what reading it told."""

    processed: Processed
    scan: Scan


def process_source(
    source: ScanSource,
    settings: PreprocessingConfig,
    store: PreparedStore | None = None,
    scan_hash: str = "",
) -> ProcessedSource:
    """Read a scan, place its brain or take the placement from the store, and judge the result.

    A volume that `prepare` wrote lies where it should and keeps the verdict of its scan, as long
    as image and mask are those that its sidecar names by hash.

    Parameters
    ----------
    store : PreparedStore, optional
        Where placements are kept; None keeps nothing.
    scan_hash : str
        `hash_source`, where it is known already.

    Raises
    ------
    VolumeError
        If the scan or its mask cannot be read, or changes meanwhile.
    PreparationError
        If no brain is found. A brain that is not trusted has the verdict `failed`.
    StoreError
        If the store cannot be written.
    """
    if store is None:
        return _heed_contrast_agent(_process(source, settings)[0])
    # Before the scan is read: a file that changes meanwhile must not be kept under its new hash.
    scan_hash = scan_hash or hash_source(source)
    key = entry_key("placement", scan_hash, settings)
    done, is_new = _process(source, settings, store.load("placement", key, unpack_placement))
    check_unchanged(source, scan_hash)
    if is_new:
        placed = done.processed.placement, done.processed.measures
        store.save("placement", key, *pack_placement(*placed))
    return _heed_contrast_agent(done)


def _heed_contrast_agent(done: ProcessedSource) -> ProcessedSource:
    """Flag a scan with contrast agent: it brightens vessels, and models do not know it."""
    processed, told = done.processed, done.scan.contrast_agent
    if not told:
        return done
    reason = f"a contrast agent was given ({told})"
    if reason in processed.reasons:  # a prepared volume keeps the reasons of its scan
        return done
    verdict: Verdict = "failed" if processed.verdict == "failed" else "flagged"
    processed = replace(processed, verdict=verdict, reasons=(*processed.reasons, reason))
    return replace(done, processed=processed)


def _process(
    source: ScanSource, settings: PreprocessingConfig, known: Placed | None = None
) -> tuple[ProcessedSource, bool]:
    """Process a scan; whether a placement had to be found."""
    scan = read_scan(source.path, source.where, series=settings.series)
    try:
        return _process_scan(scan, source, settings, known)
    except PreparationError as error:
        raise with_note(error, scan.note) from error


def with_note(error: PreparationError, note: str) -> PreparationError:
    """Add to an error what reading the scan told: it may well be the reason."""
    told = f"{error.problem} Note: {note}." if note else error.problem
    return PreparationError(error.where, told, error.remedy)


def _process_scan(
    scan: Scan, source: ScanSource, settings: PreprocessingConfig, known: Placed | None
) -> tuple[ProcessedSource, bool]:
    sidecar = source.sidecar
    if sidecar is not None:
        return ProcessedSource(_process_prepared(source, sidecar, scan, settings), scan), False
    if known is not None:
        processed = process_again(scan.volume, *known, settings, source.where)
        return ProcessedSource(processed, scan), False
    mask = None
    if source.mask_file is not None:
        mask = _load_mask(source)
    elif source.command:
        mask = extract_brain(scan.volume, source.command, source.where)
    processed = process_volume(scan.volume, settings, source.where, mask=mask)
    return ProcessedSource(processed, scan), True


def _load_mask(source: ScanSource) -> Volume:
    assert source.mask_file is not None
    return load_mask(source.mask_file, f"{source.where}: brain mask")


def _process_prepared(
    source: ScanSource, sidecar: Json, scan: Scan, settings: PreprocessingConfig
) -> Processed:
    placement = Placement("prepared brain", _load_mask(source), np.eye(4))
    measures = {str(name): float(value) for name, value in sidecar["Measures"].items()}
    judged = sidecar["Verdict"], tuple(str(reason) for reason in sidecar.get("Reasons", ()))
    return process_again(scan.volume, placement, measures, settings, source.where, judged)


def pack_placement(placement: Placement, measures: dict[str, float]) -> tuple[Json, Files]:
    """Pack a placement: mask in steps, bias field in sixteen bits, which is all they have."""
    arrays: dict[str, Any] = {
        "mask": np.round(placement.mask.data * MASK_STEPS).astype(np.uint8),
        "mask_affine": placement.mask.affine,
        "to_mni": placement.to_mni,
    }
    if placement.bias is not None:
        arrays["bias"] = placement.bias.data.astype(np.float16)
        arrays["bias_affine"] = placement.bias.affine
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return {"kind": placement.kind, "measures": measures}, {ARRAYS: stream.getvalue()}


def unpack_placement(about: Json, files: Files) -> Placed:
    """Unpack what `pack_placement` packed."""
    with np.load(io.BytesIO(files[ARRAYS]), allow_pickle=False) as stored:
        arrays = dict(stored)
    mask = arrays["mask"].astype(np.float32) / np.float32(MASK_STEPS)
    bias = None
    if "bias" in arrays:
        bias = Volume(arrays["bias"].astype(np.float32), arrays["bias_affine"])
    brain = Volume(mask, arrays["mask_affine"])
    return Placement(about["kind"], brain, arrays["to_mni"], bias), about["measures"]
