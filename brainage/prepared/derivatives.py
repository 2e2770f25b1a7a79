"""One scan from its source to volumes in MNI space, kept under a hash of all that decides them.

The result of a scan is a folder that appears whole or not at all, so that several machines may
share a store, and a kill loses nothing finished.
"""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
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
from brainage.files import (
    atomic_write_bytes,
    parse_json,
    read_sealed,
    seal,
    sha256_bytes,
    sha256_file,
    temporary_name,
)
from brainage.plotting.placement import draw_scan
from brainage.prepared.arrays import content_hash
from brainage.prepared.source import (
    SIDECAR_IMAGE,
    SIDECAR_MASK,
    ScanSource,
    process_source,
    refuse_changed,
    sign_sidecar,
)
from brainage.preprocessing.pipeline import Processed
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.scans.derivative_names import find_derivative
from brainage.scans.open import Scan
from brainage.types import DoubleArray, Json, Verdict

# Raise whenever the same scan and settings would give other files.
DERIVATIVE_VERSION = 2
SPACE = "MNI152NLin2009aSym"
IMAGE, MASK, PICTURE, RECORD = "T1w.nii.gz", "mask.nii.gz", "picture.png", "record.sealed"
TASK = f"{__name__}:derive_task"

_PACKAGES = ("brainage", "numpy", "scipy", "nibabel", "nilearn", "SimpleITK", "pydicom", "dcm2niix")


@dataclass(frozen=True)
class ScanRequest:
    """What is asked for one scan; travels to another process or machine as JSON.

    Attributes
    ----------
    store : str
        Folder of results, the same wherever tasks run.
    settings : dict
        A `PreprocessingConfig`.
    mask : str
        Brain mask of the scan, or empty: that of a derivative beside it, if there is one.
    command : str
        Brain extraction command, or empty.
    age_from_dicom : bool
        Whether PatientAge may be read.
    """

    scan_id: str
    path: str
    store: str
    settings: Json
    mask: str = ""
    command: str = ""
    age_from_dicom: bool = False

    @property
    def source(self) -> ScanSource:
        """The scan and its mask."""
        return ScanSource(self.path, self.scan_id, self.mask, self.command)


@dataclass(frozen=True)
class ScanRecord:
    """What became of a scan, without its volumes.

    Attributes
    ----------
    key : str
        Content hash; empty where the source could not even be read.
    stage, verdict, reason : str
        As in the ledger.
    note : str
        What was chosen on the way, such as a DICOM series.
    age_years : float, optional
        PatientAge, where it was asked for.
    provenance : dict
        Parameters, transform, template, versions, measures, seconds of each step.
    files : dict of str to str
        SHA-256 of each file of the result.
    """

    key: str
    stage: str
    verdict: Verdict
    reason: str
    note: str
    age_years: float | None
    provenance: Json
    files: dict[str, str]


@dataclass(frozen=True)
class DerivativeStore:
    """Folder of results, one folder a scan, named by content hash."""

    folder: Path

    def path(self, key: str) -> Path:
        """Folder of a result."""
        return self.folder / "derivatives" / key[:2] / key

    def load(self, key: str) -> ScanRecord | None:
        """Record of a result; None where it is missing or one of its files is damaged."""
        folder = self.path(key)
        try:
            record = ScanRecord(**parse_json(read_sealed(folder / RECORD) or b""))
            whole = all(sha256_file(folder / name) == sum_ for name, sum_ in record.files.items())
        except (OSError, ValueError, TypeError, AttributeError, BrainageError):
            return None
        return record if whole and record.key == key else None

    def save(self, record: ScanRecord, files: Mapping[str, bytes]) -> None:
        """Put a result into its place; a damaged older one is replaced.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        target = self.path(record.key)
        private = target.with_name(temporary_name())
        sealed = seal(json.dumps(asdict(record), indent=1).encode())
        try:
            for name, content in {**files, RECORD: sealed}.items():
                atomic_write_bytes(private / name, content)
            if target.exists() and self.load(record.key) is None:
                target.rename(private / "damaged")
            if not target.exists():
                private.rename(target)
        except (BrainageError, OSError) as error:
            # Another worker may have been as fast with the same scan: then all is well.
            if self.load(record.key) is None:
                problem = "results cannot be written."
                raise StoreError(str(self.folder), problem, "Choose another --cache.") from error
        finally:
            shutil.rmtree(private, ignore_errors=True)


def derive_task(argument: Json) -> Json:
    """`derive_scan` between JSON objects: what child processes run."""
    try:
        return asdict(derive_scan(ScanRequest(**argument)))
    except (StoreError, ConfigError) as error:
        # The store or a setting is at fault, not the scan: the whole run must end.
        return {"fault": [error.where, error.problem, error.remedy]}


def derive_scan(request: ScanRequest) -> ScanRecord:
    """Process a scan, unless the store has its result; failures are records too.

    Raises
    ------
    StoreError, ConfigError
        If the store or the request, not the scan, is at fault.
    """
    store = DerivativeStore(Path(request.store))
    settings = PreprocessingConfig.model_validate(request.settings)
    key = ""
    try:
        key = request_key(request, settings)
        known = store.load(key)
        if known is not None:
            return known
        done = process_source(request.source, settings, store.folder)
        refuse_changed(request.source, request_key(request, settings) == key)
        processed, scan = done.processed, done.scan
    except (VolumeError, PreparationError) as error:
        return _keep_failure(store, key, request, settings, error)
    files = _render(processed, request.scan_id)
    sums = {name: sha256_bytes(content) for name, content in files.items()}
    record = ScanRecord(
        key=key,
        stage="prepare",
        verdict=processed.verdict,
        reason="; ".join(processed.reasons),
        note=scan.note,
        age_years=scan.age_years if request.age_from_dicom else None,
        provenance=sign_sidecar(
            _describe(processed, request, scan, settings)
            | {SIDECAR_IMAGE: sums.get(IMAGE, ""), SIDECAR_MASK: sums.get(MASK, "")}
        ),
        files=sums,
    )
    store.save(record, files)
    return record


def request_key(request: ScanRequest, settings: PreprocessingConfig) -> str:
    """SHA-256 of the scan's bytes and everything that the result depends on.

    Raises
    ------
    VolumeError
        If the scan or its mask is missing or cannot be read.
    """
    parts = [str(DERIVATIVE_VERSION), content_hash(request.source, settings)]
    parts += [request.scan_id, str(request.age_from_dicom)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _keep_failure(
    store: DerivativeStore, key: str, request: ScanRequest, settings: PreprocessingConfig,
    error: BrainageError,
) -> ScanRecord:  # fmt: skip
    """Record of a failure, stored only where the scan still is what was looked for."""
    stage = "read" if isinstance(error, VolumeError) else "prepare"
    record = ScanRecord(key, stage, "failed", error.reason, "", None, {}, {})
    with contextlib.suppress(VolumeError):
        if key and request_key(request, settings) == key:
            store.save(record, {})
    return record


def _render(processed: Processed, scan_id: str) -> dict[str, bytes]:
    """Files of a result: the picture always, volumes only where they can be trusted."""
    files = {PICTURE: draw_scan(processed, scan_id)}
    if processed.verdict != "failed":
        affine = processed.image.affine
        files[IMAGE] = _nifti(processed.brain.data, affine)
        files[MASK] = _nifti(processed.mask.astype(np.uint8), affine)
    return files


def _nifti(data: NDArray[np.generic], affine: DoubleArray) -> bytes:
    # No time stamp in the gzip header: the same scan gives the same bytes.
    return gzip.compress(nib.Nifti1Image(data, affine).to_bytes(), compresslevel=4, mtime=0)


def _describe(
    processed: Processed, request: ScanRequest, scan: Scan, settings: PreprocessingConfig
) -> Json:
    return {
        "SkullStripped": True,
        "SpatialReference": SPACE,
        "Recognised": " ".join((processed.recognised, find_derivative(request.path).label)).strip(),
        "Source": scan.note or "image file",
        "BrainMask": "given" if request.mask else request.command or "brainage",
        "Verdict": processed.verdict,
        "Reasons": list(processed.reasons),
        "Measures": processed.measures,
        "SourceToSpaceAffine": processed.transform.tolist(),
        "TemplateSHA256": TEMPLATE_SHA256,
        "Parameters": settings.model_dump(mode="json"),
        "Versions": library_versions(),
        "SecondsPerStep": {name: round(took, 3) for name, took in processed.seconds.items()},
    }


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Versions of brainage and of the libraries that touch voxels."""
    return {package: version(package) for package in _PACKAGES}


def place_file(source: Path, target: Path) -> None:
    """Make `target` the file `source`, by a hard link where the file system allows it.

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    temporary = target.with_name(temporary_name())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})."
        raise StoreError(str(target), problem, "Check the folder and the free disk.") from error
    finally:
        # Replacing a file by a link to itself leaves both names.
        temporary.unlink(missing_ok=True)
