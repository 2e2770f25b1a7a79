"""Synthetic DICOM series: a volume in, files as a scanner would export them out."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

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


def pack_pixels(file: Path, syntax: str) -> None:
    """Compress the pixels of a file: lossless JPEG, JPEG 2000 or RLE."""
    header = pydicom.dcmread(file)
    if syntax == RLELossless:
        header.compress(RLELossless, generate_instance_uid=False)
    else:
        encode = {JPEGLosslessSV1: encode_lossless_jpeg, JPEG2000Lossless: _encode_jpeg_2000}
        header.PixelData = encapsulate([encode[UID(syntax)](header.pixel_array)])
        header["PixelData"].VR, header["PixelData"].is_undefined_length = "OB", True
        header.file_meta.TransferSyntaxUID = UID(syntax)
    header.save_as(file, enforce_file_format=True)


def _encode_jpeg_2000(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True)
    return stream.getvalue()


def encode_lossless_jpeg(pixels: np.ndarray) -> bytes:
    """Lossless JPEG of a 16-bit image: ITU-T T.81, process 14, selection value 1.

    Each pixel is predicted by its left neighbour, in the first column by the one above. The size
    class of the difference has a code of 5 bits, the difference as many as its class.
    """
    values = pixels.astype(np.int64)
    before = np.empty_like(values)
    before[:, 1:] = values[:, :-1]
    before[1:, 0], before[0, 0] = values[:-1, 0], 2**15
    bits = ""
    for difference in (values - before).ravel().tolist():
        size = abs(difference).bit_length()
        low = difference if difference >= 0 else difference + 2**size - 1
        bits += f"{size:05b}" + (f"{low:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    rows, columns = (side.to_bytes(2, "big") for side in pixels.shape)
    codes = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    return b"".join(
        [
            b"\xff\xd8\xff\xc4", (len(codes) + 3).to_bytes(2, "big"), b"\0", codes,
            b"\xff\xc3\0\x0b\x10", rows, columns, b"\1\1\x11\0",
            b"\xff\xda\0\x08\1\1\0\1\0\0", body, b"\xff\xd9",
        ]
    )  # fmt: skip


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
