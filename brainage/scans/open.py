"""One door for every kind of scan: NIfTI, Analyze, MGH, DICOM files, DICOM folders, zips."""

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainage.errors import VolumeError
from brainage.scans.archive import (
    MAX_UNPACKED_BYTES,
    ZIP_MAGICS,
    inflate_gzip,
    is_zip,
    unpack_zip,
)
from brainage.scans.dicom.choice import SeriesChoice, offer_series
from brainage.scans.dicom.convert import read_dicom
from brainage.scans.dicom.read import (
    begins_like_dicom,
    has_preamble,
    is_dicom,
    list_files,
    read_images,
)
from brainage.scans.dicom.series import list_series
from brainage.scans.dicom.source import read_source
from brainage.scans.headers import HEADER_BYTES, is_header
from brainage.scans.unknown import ACCEPTED, describe_unknown
from brainage.scans.volume import GZIP_MAGIC, is_image, load_noted, scan_files
from brainage.types import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# https://bids-specification.readthedocs.io/en/stable/appendices/entities.html#ce
_CONTRAST_ENTITY = re.compile(r"_ce-(?!no|pre|wo|without|native|0)[a-z0-9]+_", re.IGNORECASE)
_PEEK_BYTES = 2**16


@dataclass(frozen=True)
class Scan:
    """A scan that was read.

    Attributes
    ----------
    volume : Volume
        Voxels (I, J, K) and affine, RAS+.
    note : str
        What was chosen or settled on the way (a DICOM series, a contradiction of the header, text
        behind the voxels); empty where there was nothing. For the ledger.
    age_years : float, optional
        PatientAge of a DICOM header; to be used only where that was asked for.
    sex : str
        PatientSex of a DICOM header, F or M, else empty; used as `age_years` is.
    series : str
        DICOM series in words without any text of the file; empty where there is none.
    source : str
        Kind of file, or the DICOM series.
    contrast_agent : str
        What says that a contrast agent such as gadolinium was given: the DICOM header, or ``ce-``
        in the name of a BIDS file; empty where nothing does.
    """

    volume: Volume
    note: str = ""
    age_years: float | None = None
    source: str = "image file"
    contrast_agent: str = ""
    sex: str = ""
    series: str = ""


def read_scan(path: str | Path, name: str | None = None, *, series: str | None = None) -> Scan:
    """Read an image file, a DICOM file, or a folder or zip that holds one scan of either kind.

    Parameters
    ----------
    path : str or pathlib.Path
        What it is decides its content, not its name.
    name : str, optional
        What errors call the scan; its path when absent.
    series : str, optional
        DICOM series, by number or by text of its description.

    Raises
    ------
    VolumeError
        As `load_volume`, `unpack_zip` and `read_dicom` do.
    """
    where = name if name is not None else str(path)
    with _open_files(Path(path), where) as files:
        if (image := _find_image(files, Path(path), where)) is not None:
            return Scan(*load_noted(image, where), contrast_agent=names_contrast_agent(image))
        reading = read_dicom(files, where, series=series)
        agent = "the DICOM header" if reading.contrast_agent else ""
        return Scan(
            reading.volume,
            reading.choice,
            reading.age_years,
            source=reading.choice,
            contrast_agent=agent,
            sex=reading.sex,
            series=reading.words,
        )


def names_contrast_agent(path: str | Path) -> str:
    """Return the part of a BIDS file's name that tells of a contrast agent; empty without one.

    Examples
    --------
    >>> names_contrast_agent("sub-01_ce-gadolinium_T1w.nii.gz")
    'ce- in its name'
    """
    return "ce- in its name" if _CONTRAST_ENTITY.search(Path(path).name) else ""


def scan_series(path: str | Path, where: str) -> list[SeriesChoice]:
    """Series in a DICOM folder, file or zip, the best T1 first; none of an image file.

    Pixels are not decoded.

    Raises
    ------
    VolumeError
        As `unpack_zip` and `read_images` do, or if there are several patients.
    """
    with _open_files(Path(path), where) as files:
        if _find_image(files, Path(path), where) is not None:
            return []
        return offer_series(list_series(read_images(files, where)), where)


def read_source_headers(
    path: str | Path, where: str, *, series: str | None = None
) -> "list[Dataset]":
    """Headers of the series that `read_scan` takes, for results that refer to it.

    Raises
    ------
    VolumeError
        As `read_scan` and `read_source` do, and if the scan is no DICOM.
    """
    with _open_files(Path(path), where) as files:
        if _find_image(files, Path(path), where) is not None:
            problem = "is no DICOM: there is no series that DICOM results could belong to."
            raise VolumeError(where, problem, "Give the DICOM folder or zip of the scan.")
        return read_source(files, where, series=series)


def source_files(path: str | Path, name: str | None = None) -> tuple[Path, ...]:
    """Files whose bytes make up a scan, in a fixed order: what a content hash covers.

    Raises
    ------
    VolumeError
        If one is missing or unsuitable.
    """
    source, where = Path(path), name if name is not None else str(path)
    if not source.is_dir():
        return scan_files(path, name)
    files = tuple(list_files(source, where))
    if not files:
        raise VolumeError(where, "the folder is empty.", "Give the folder of one T1 series.")
    return files


def refuse_content(content: bytes) -> str:
    """Say what a file is that begins like no scan; empty where only reading it can tell.

    Parameters
    ----------
    content : bytes
        The file, or its first 64 KiB.
    """
    head = content[:HEADER_BYTES]
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(wbits=31).decompress(content[:_PEEK_BYTES], HEADER_BYTES)
        except zlib.error:
            return ""
    known = head.startswith(ZIP_MAGICS) or begins_like_dicom(head) or is_header(head)
    return "" if known or not head else " ".join(describe_unknown(head))


@contextmanager
def _open_files(source: Path, where: str) -> Iterator[list[Path]]:
    """Files of a folder or zip, or the one file; unpacked as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="brainage-zip-") as private:
        if source.is_dir():
            files = list_files(source, where)
        elif is_zip(source):
            files = unpack_zip(source, Path(private), where)
        else:
            files = [source]
        yield _inflate(files, Path(private), where)


def _find_image(files: list[Path], source: Path, where: str) -> Path | None:
    """Return the one image file; None where there are DICOM files.

    Raises
    ------
    VolumeError
        If there are several images, or neither.
    """
    if any(is_dicom(file) for file in files):
        return None
    if files == [source]:
        return source  # whatever it is: reading it says what is wrong
    images = [file for file in files if is_image(file)]
    if len(images) == 1:
        return images[0]
    problem = f"holds no DICOM image and {len(images) or 'no'} image files, one scan is needed."
    remedy = "Give one of them; a data set is given as --cohort."
    raise VolumeError(where, problem, remedy if images else ACCEPTED)


def _inflate(files: list[Path], private: Path, where: str) -> list[Path]:
    """Put the inflated file in the place of every gzipped DICOM file."""
    ready, left = [], MAX_UNPACKED_BYTES
    for number, file in enumerate(files):
        if _is_packed_dicom(file):
            file = inflate_gzip(file, private / f"{number:06d}.dcm", where, left)
            left -= file.stat().st_size
        ready.append(file)
    return ready


def _is_packed_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as plain:
            if plain.read(2) != GZIP_MAGIC:
                return False
        with gzip.open(path) as stream:
            return has_preamble(stream.read(132))
    except (OSError, EOFError, ValueError, zlib.error):
        return False
