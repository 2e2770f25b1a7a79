"""Derive a scan's volumes in MNI space, with picture and provenance, once."""

import gzip
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainage import __version__
from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError, ConfigError, PreparationError, StoreError, VolumeError
from brainage.files import sha256_bytes, temporary_name
from brainage.plotting.placement import draw_scan
from brainage.prepared.placement import process_source
from brainage.prepared.sidecar import SIDECAR_IMAGE, SIDECAR_MASK, sign_sidecar
from brainage.prepared.source import ScanSource, check_unchanged, hash_source
from brainage.prepared.store import PreparedStore, entry_key, library_versions
from brainage.preprocessing.pipeline import Processed
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.scans.derivative_names import find_derivative
from brainage.scans.open import Scan
from brainage.types import DoubleArray, Json, Verdict

SPACE = "MNI152NLin2009aSym"
IMAGE, MASK, PICTURE = "T1w.nii.gz", "mask.nii.gz", "picture.png"
_MNI_CODE = 4  # NIfTI's code of MNI space
TASK = f"{__name__}:derive_task"


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
        Key of the entry; empty where the source could not even be read.
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


def derive_task(argument: Json) -> Json:
    """Run `derive_scan` between JSON objects, as child processes do."""
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
    notes: list[str] = []
    store = PreparedStore(Path(request.store), notes.append)
    settings = PreprocessingConfig.model_validate(request.settings)
    try:
        scan_hash = hash_source(request.source)
    except VolumeError as error:
        return _failure("", error)
    key = request_key(request, settings, scan_hash)
    record = store.load("derivative", key, lambda about, _: ScanRecord(**about))
    if record is None:
        record = _derive(request, settings, store, key, scan_hash)
    return replace(record, note="; ".join(filter(None, (record.note, *notes))))


def request_key(request: ScanRequest, settings: PreprocessingConfig, scan_hash: str) -> str:
    """Hash all that the result of a request depends on."""
    more = {"scan_id": request.scan_id, "age_from_dicom": request.age_from_dicom}
    return entry_key("derivative", scan_hash, settings, **more)


def _derive(
    request: ScanRequest, settings: PreprocessingConfig, store: PreparedStore, key: str,
    scan_hash: str,
) -> ScanRecord:  # fmt: skip
    files: Mapping[str, bytes] = {}
    try:
        done = process_source(request.source, settings, store, scan_hash)
    except (VolumeError, PreparationError) as error:
        record = _failure(key, error)
        try:
            check_unchanged(request.source, scan_hash)
        except VolumeError:
            return record  # kept only where the scan still is what was looked for
    else:
        files = _render(done.processed, request.scan_id)
        record = _describe(done.processed, request, done.scan, settings, key, files)
    store.save("derivative", key, asdict(record), files)
    return record


def _failure(key: str, error: BrainageError) -> ScanRecord:
    stage = "read" if isinstance(error, VolumeError) else "prepare"
    return ScanRecord(key, stage, "failed", error.reason, "", None, {}, {})


def _render(processed: Processed, scan_id: str) -> dict[str, bytes]:
    """Render the files of a result: picture always, volumes where they can be trusted."""
    files = {PICTURE: draw_scan(processed, scan_id)}
    if processed.verdict != "failed":
        affine = processed.image.affine
        files[IMAGE] = _nifti(processed.brain.data, affine)
        files[MASK] = _nifti(processed.mask.astype(np.uint8), affine)
    return files


def _nifti(data: NDArray[np.generic], affine: DoubleArray) -> bytes:
    # No time stamp in the gzip header: the same scan gives the same bytes.
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=_MNI_CODE)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def _describe(
    processed: Processed, request: ScanRequest, scan: Scan, settings: PreprocessingConfig,
    key: str, files: Mapping[str, bytes],
) -> ScanRecord:  # fmt: skip
    sums = {name: sha256_bytes(content) for name, content in files.items()}
    provenance = {
        "Description": "T1-weighted brain, registered to the template, skull-stripped.",
        "SkullStripped": True,
        "SpatialReference": SPACE,
        "Recognised": " ".join((processed.recognised, find_derivative(request.path).label)).strip(),
        "Source": scan.source,
        "BrainMask": "given" if request.mask else request.command or "brainage",
        "Verdict": processed.verdict,
        "Reasons": list(processed.reasons),
        "Measures": processed.measures,
        "SourceToSpaceAffine": processed.transform.tolist(),
        "TemplateSHA256": TEMPLATE_SHA256,
        "Parameters": settings.model_dump(mode="json"),
        "Versions": {"brainage": __version__} | library_versions(),
        "SecondsPerStep": {name: round(took, 3) for name, took in processed.seconds.items()},
        SIDECAR_IMAGE: sums.get(IMAGE, ""),
        SIDECAR_MASK: sums.get(MASK, ""),
    }
    return ScanRecord(
        key=key,
        stage="prepare",
        verdict=processed.verdict,
        reason="; ".join(processed.reasons),
        note=scan.note,
        age_years=scan.age_years if request.age_from_dicom else None,
        provenance=sign_sidecar(provenance),
        files=sums,
    )


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
