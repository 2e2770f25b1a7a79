"""A scan and its brain mask on disk, brought to any grid; what takes time is done once.

Where the brain lies (`Placement`) does not depend on the network's grid. It is kept under a hash
of the scan's bytes, its mask and the settings, so that `prepare` and every model that reads the
same scan share one registration.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError, StoreError, VolumeError
from brainage.files import (
    DAMAGE_ERRORS,
    parse_json,
    read_sealed,
    sha256_bytes,
    sha256_file,
    write_sealed,
)
from brainage.preprocessing.locate import Kind, Placement
from brainage.preprocessing.pipeline import Processed, process_again, process_volume
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.scans.brain_extraction import extract_brain, load_mask
from brainage.scans.derivative_names import find_derivative
from brainage.scans.open import Scan, read_scan, source_files
from brainage.types import BoolArray, DoubleArray, Json, Verdict, Volume

# Raise whenever the same scan and settings would be placed otherwise.
PLACEMENT_VERSION = 2
# Settings that decide neither where the brain is nor what is measured there.
_OF_THE_GRID = {"spacing_mm", "shape", "min_template_correlation"}
# What `prepare` calls its files; the sidecar holds these keys.
SIDECAR_IMAGE, SIDECAR_MASK, SIDECAR_SELF = "ImageSHA256", "MaskSHA256", "SidecarSHA256"


@dataclass(frozen=True)
class ScanSource:
    """A scan on disk and whose brain mask to take.

    Attributes
    ----------
    path : str
    scan_id : str
        What errors call it; its path where it has no name.
    mask : str
        Brain mask, or empty: that of a derivative beside the scan, if there is one.
    command : str
        Brain extraction command, or empty; a mask takes its place.
    """

    path: str
    scan_id: str = ""
    mask: str = ""
    command: str = ""

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.scan_id or self.path

    @property
    def mask_file(self) -> Path | None:
        """The given mask, else the one beside a derivative of a known program."""
        if self.mask:
            return Path(self.mask)
        return None if self.command else find_derivative(self.path).mask


@dataclass(frozen=True)
class ProcessedSource:
    """A processed scan, and what reading it told."""

    processed: Processed
    scan: Scan


def hash_source(source: ScanSource) -> str:
    """SHA-256 of all bytes of a scan (a pair, a whole folder), its mask and its command.

    Raises
    ------
    VolumeError
        If a file is missing or cannot be read.
    """
    mask = source.mask_file
    digest = hashlib.sha256(source.command.encode("utf-8", "surrogateescape"))
    masks = () if mask is None else source_files(mask, f"{source.where}: brain mask")
    for files in (source_files(source.path, source.where), masks):
        digest.update(f"\n{len(files)} files\n".encode())
        for file in files:
            try:
                digest.update(sha256_file(file).encode())
            except BrainageError as error:
                raise VolumeError(source.where, error.problem, error.remedy) from error
    return digest.hexdigest()


def process_source(
    source: ScanSource, settings: PreprocessingConfig, cache_dir: Path | None
) -> ProcessedSource:
    """Read a scan, place its brain or take the placement from the cache, and judge the result.

    A volume that `prepare` wrote lies where it should and keeps the verdict of its scan, as long
    as image and mask are those that its sidecar names by hash.

    Parameters
    ----------
    cache_dir : pathlib.Path, optional
        Folder of placements; None keeps nothing.

    Raises
    ------
    VolumeError
        If the scan or its mask cannot be read.
    PreparationError
        If no brain is found. A brain that is not trusted has the verdict `failed`.
    StoreError
        If the cache cannot be written.
    """
    # Before the scan is read: a file that changes meanwhile must not be kept under its new hash.
    path = None if cache_dir is None else placement_path(cache_dir, source, settings)
    scan = read_scan(source.path, source.where, series=settings.series)
    sidecar = None if source.mask or source.command else read_sidecar(source.path)
    if sidecar is not None:
        return ProcessedSource(_process_prepared(source, sidecar, scan, settings), scan)
    known = None if path is None else load_placement(path)
    if known is not None:
        processed = process_again(scan.volume, *known, settings, source.where)
        return ProcessedSource(processed, scan)
    mask = _find_mask(source, scan.volume)
    processed = process_volume(scan.volume, settings, source.where, mask=mask)
    if path is not None and cache_dir is not None:
        refuse_changed(source, placement_path(cache_dir, source, settings) == path)
        save_placement(path, processed.placement, processed.measures)
    return ProcessedSource(processed, scan)


def read_sidecar(path: str | Path) -> Json | None:
    """Sidecar of a volume that `prepare` wrote; None where it does not vouch for these files."""
    mask = find_derivative(path).mask
    if mask is None:
        return None
    try:
        text = Path(path).with_name(Path(path).name.split(".")[0] + ".json").read_bytes()
        sidecar: Json = parse_json(text)
        told = [sidecar[name] for name in ("TemplateSHA256", SIDECAR_IMAGE, SIDECAR_MASK)]
        found = [TEMPLATE_SHA256, sha256_file(Path(path)), sha256_file(mask)]
        whole = sidecar["Verdict"] in get_args(Verdict) and isinstance(sidecar["Measures"], dict)
        # Sidecars from before there was a seal have none.
        whole = whole and sidecar in (sign_sidecar(sidecar), _unsigned(sidecar))
    except (OSError, ValueError, TypeError, KeyError, BrainageError):
        return None
    return sidecar if whole and told == found else None


def sign_sidecar(sidecar: Json) -> Json:
    """Return a sidecar with the SHA-256 of its other entries, in any order."""
    content = _unsigned(sidecar)
    text = json.dumps(content, sort_keys=True)
    return content | {SIDECAR_SELF: sha256_bytes(text.encode("utf-8", "surrogateescape"))}


def _unsigned(sidecar: Json) -> Json:
    return {name: value for name, value in sidecar.items() if name != SIDECAR_SELF}


def refuse_changed(source: ScanSource, is_same: bool) -> None:
    """Refuse a scan that is not what it was when its hash was taken.

    Raises
    ------
    VolumeError
        Else the result would be kept under the hash of other bytes.
    """
    if not is_same:
        problem = "changed while it was read."
        raise VolumeError(source.where, problem, "Run the command again when the file is whole.")


def _process_prepared(
    source: ScanSource, sidecar: Json, scan: Scan, settings: PreprocessingConfig
) -> Processed:
    mask = _find_mask(source, scan.volume)
    assert mask is not None  # the sidecar vouched for it
    placement = Placement("prepared brain", mask, np.eye(4))
    measures = {str(name): float(value) for name, value in sidecar["Measures"].items()}
    judged = sidecar["Verdict"], tuple(str(reason) for reason in sidecar.get("Reasons", ()))
    return process_again(scan.volume, placement, measures, settings, source.where, judged)


def _find_mask(source: ScanSource, volume: Volume) -> Volume | None:
    if source.mask_file is not None:
        return load_mask(source.mask_file, f"{source.where}: brain mask")
    return extract_brain(volume, source.command, source.where) if source.command else None


def placement_path(cache_dir: Path, source: ScanSource, settings: PreprocessingConfig) -> Path:
    """Where the placement of a scan lies.

    Raises
    ------
    VolumeError
        As `hash_source` does.
    """
    content = {
        "version": PLACEMENT_VERSION,
        "template": TEMPLATE_SHA256,
        "settings": settings.model_dump(mode="json", exclude=_OF_THE_GRID),
        "source": hash_source(source),
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return cache_dir / "placements" / key[:2] / f"{key}.npz"


def save_placement(path: Path, placement: Placement, measures: dict[str, float]) -> None:
    """Keep a placement: mask in bits, bias field in sixteen bits, which is all it has.

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    about = {"kind": placement.kind, "measures": measures, "shape": placement.mask.data.shape}
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "mask": np.packbits(placement.mask.data >= 0.5),
        "mask_affine": placement.mask.affine,
        "to_mni": placement.to_mni,
    }
    if placement.bias is not None:
        arrays["bias"] = placement.bias.data.astype(np.float16)
        arrays["bias_affine"] = placement.bias.affine
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    try:
        write_sealed(path, stream.getvalue())
    except BrainageError as error:
        remedy = "Free disk space or choose another cache folder."
        raise StoreError(error.where, error.problem, remedy) from error


def load_placement(path: Path) -> tuple[Placement, dict[str, float]] | None:
    """Placement and measures that were kept; None where they are missing or damaged."""
    payload = read_sealed(path)
    try:
        return None if payload is None else _unpack_placement(payload)
    except DAMAGE_ERRORS:
        return None


def _unpack_placement(payload: bytes) -> tuple[Placement, dict[str, float]]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        arrays = dict(stored)
    about = parse_json(arrays["about"].tobytes())
    kind: Kind = about["kind"]
    shape = tuple(about["shape"])
    mask: BoolArray = np.unpackbits(arrays["mask"], count=int(np.prod(shape))).reshape(shape)
    brain = Volume(mask.astype(np.float32), arrays["mask_affine"])
    to_mni: DoubleArray = arrays["to_mni"]
    bias = None
    if "bias" in arrays:
        bias = Volume(arrays["bias"].astype(np.float32), arrays["bias_affine"])
    return Placement(kind, brain, to_mni, bias), about["measures"]
