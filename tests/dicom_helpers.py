"""Synthetic DICOM series: a volume in, files as a scanner would export them out."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from brainage.types import Volume

# Every text of the patient, so that a test can look for it in everything that is written.
SECRETS = ("SECRETNAME", "GIVENSECRET", "PID99887766", "19591231")


def make_head(shape: tuple[int, int, int] = (24, 28, 26), spacing_mm: float = 6.0) -> Volume:
    """A smooth lopsided blob: no flip or permutation of it looks like another."""
    grid = np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij")
    x, y, z = grid
    data = 900 * np.exp(-3 * (x**2 + y**2 + z**2)) + 60 * (x > 0.2) + 120 * (y > 0.4) + 30 * z + 40
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [-spacing_mm * (side - 1) / 2 for side in shape]
    return Volume(np.round(data).astype(np.float32), affine)


def write_series(
    folder: Path,
    volume: Volume,
    *,
    number: int = 3,
    description: str = "MPRAGE sag",
    skip: tuple[int, ...] = (),
    age: str = "045Y",
    syntax: str = ExplicitVRLittleEndian,
    **attributes: Any,
) -> list[Path]:
    """Write axial slices of a RAS+ volume, one file each; returns the files.

    DICOM's patient axes point Left and Posterior: the affine's x and y are negated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series_uid, files = generate_uid(), []
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    row, column = affine[:3, 0] / steps[0], affine[:3, 1] / steps[1]
    for k in range(volume.data.shape[2]):
        if k in skip:
            continue
        header = _new_file(series_uid, syntax)
        header.SeriesNumber, header.SeriesDescription = number, description
        header.InstanceNumber, header.PatientAge = k + 1, age
        position = affine @ [0, 0, k, 1]
        header.ImagePositionPatient = [f"{value:.6f}" for value in position[:3]]
        header.ImageOrientationPatient = [f"{value:.6f}" for value in (*row, *column)]
        header.PixelSpacing = [f"{steps[1]:.6f}", f"{steps[0]:.6f}"]
        header.SliceThickness = header.SpacingBetweenSlices = f"{steps[2]:.6f}"
        pixels = np.round(volume.data[:, :, k].T).astype(np.uint16)
        header.Rows, header.Columns = pixels.shape
        header.PixelData = pixels.tobytes()
        for keyword, value in attributes.items():
            setattr(header, keyword, value)
        files.append(folder / f"{SECRETS[0]}-{number}-{k:03d}.dcm")
        header.save_as(files[-1], enforce_file_format=True)
    return files


def _new_file(series_uid: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = UID(syntax)
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    header.PatientName, header.PatientID = "^".join(SECRETS[:2]), SECRETS[2]
    header.PatientBirthDate, header.PatientSex = SECRETS[3], "O"
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3.4", series_uid
    header.FrameOfReferenceUID = "1.2.3.4.5"
    header.StudyDate = header.SeriesDate = "20200101"
    header.StudyTime = header.SeriesTime = "101010"
    header.Modality, header.Manufacturer = "MR", "SIEMENS"
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM"]
    header.ScanningSequence, header.MRAcquisitionType = "GR", "3D"
    header.EchoTime, header.RepetitionTime, header.InversionTime = 3.0, 2000.0, 900.0
    header.FlipAngle, header.MagneticFieldStrength = 9, 3
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    return header


def zip_files(path: Path, files: list[Path]) -> Path:
    """Zip of files under their own names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"study/{file.name}")
    return path


def make_zip(path: Path, entries: dict[str, bytes]) -> Path:
    """Zip of named contents."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return path
