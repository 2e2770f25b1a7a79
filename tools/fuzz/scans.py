"""Healthy scans of every format, and their reader."""

import gzip
import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np

from brainage.scans.open import read_scan
from tests.dicom_helpers import make_head, write_series
from tools.fuzz.target import Target, files_below


def _image_bytes(kind: type, data: np.ndarray, big_endian: bool = False) -> dict[str, bytes]:
    image = kind(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    if big_endian:
        image = kind(
            data.astype(data.dtype.newbyteorder(">")),
            image.affine,
            image.header.as_byteswapped(">"),
        )
    with TemporaryDirectory() as folder:
        suffix = {nib.MGHImage: "mgz", nib.Nifti1Pair: "img", nib.Spm2AnalyzeImage: "img"}.get(
            kind, "nii"
        )
        image.to_filename(Path(folder) / f"scan.{suffix}")
        return files_below(Path(folder))


def _volume(dtype: type = np.int16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 200, (11, 10, 9)).astype(dtype)


def nifti_seeds() -> list[dict[str, bytes]]:
    """NIfTI-1 and -2, little and big endian, packed, and a pair."""
    plain = _image_bytes(nib.Nifti1Image, _volume())
    return [
        plain,
        _image_bytes(nib.Nifti1Image, _volume(np.float32)),
        _image_bytes(nib.Nifti1Image, _volume(), big_endian=True),
        _image_bytes(nib.Nifti2Image, _volume(np.uint8)),
        _image_bytes(nib.Nifti1Pair, _volume()),
    ]


def gzip_seeds() -> list[dict[str, bytes]]:
    """Packed NIfTI and MGH."""
    plain = _image_bytes(nib.Nifti1Image, _volume())["scan.nii"]
    return [{"scan.nii.gz": gzip.compress(plain, 1)}, mgh_seeds()[0]]


def mgh_seeds() -> list[dict[str, bytes]]:
    """MGZ and MGH."""
    packed = _image_bytes(nib.MGHImage, _volume(np.float32))["scan.mgz"]
    return [{"scan.mgz": packed}, {"scan.mgh": gzip.decompress(packed)}]


def analyze_seeds() -> list[dict[str, bytes]]:
    """Analyze pairs."""
    return [_image_bytes(nib.Spm2AnalyzeImage, _volume())]


def read_any_scan(folder: Path) -> object:
    """Read the scan in a folder as `predict` would."""
    names = sorted(path.name for path in folder.iterdir())
    return read_scan(folder / next((n for n in names if n.endswith(".img")), names[0]))


def dicom_seeds() -> list[dict[str, bytes]]:
    """A zip with one series of few slices."""
    with TemporaryDirectory() as folder:
        files = write_series(Path(folder) / "s", make_head((8, 9, 21), 9.0))
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.name)
        return [{"scan.zip": stream.getvalue()}, {"scan.dcm": files[0].read_bytes()}]


def dicom_folder_seeds() -> list[dict[str, bytes]]:
    """A folder with one series of few slices, and one with two series."""
    seeds = []
    with TemporaryDirectory() as folder:
        for count in (1, 2):
            write_series(Path(folder) / f"{count}", make_head((8, 9, 21), 9.0), number=count)
            seeds.append(files_below(Path(folder)))
    return seeds


SCANS: dict[str, Target] = {
    "nifti": Target(nifti_seeds, read_any_scan, guided="scan.nii"),
    "gzip": Target(gzip_seeds, read_any_scan),
    "mgh": Target(mgh_seeds, read_any_scan, guided="scan.mgh"),
    "analyze": Target(analyze_seeds, read_any_scan, guided="scan.hdr"),
    "dicom": Target(dicom_seeds, read_any_scan),
    "dicom_folder": Target(dicom_folder_seeds, read_scan),
}
