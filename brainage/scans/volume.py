"""Safe reader of scans: header first, then a bounded read, then checks of the voxels.

Reads .nii, .nii.gz, .hdr/.img pairs (NIfTI or Analyze), NIfTI-2 and MGH/MGZ. A file is recognised
by its first bytes, not by its name. Nothing but voxels and the affine survives.
"""

import gzip
import stat
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from brainage.errors import VolumeError
from brainage.files import explain_link
from brainage.scans.headers import (
    HEADER_BYTES,
    MAX_EXTENSION_BYTES,
    MAX_VOXELS,
    ScanHeader,
    is_header,
    parse_header,
)
from brainage.scans.voxels import describe_background, fill_surroundings, scale_voxels
from brainage.types import DoubleArray, FloatArray, Volume

# Bytes that may follow the voxels: padding, or the footer of an MGH file.
MAX_FOOTER_BYTES = 2**20
MAX_FILE_BYTES = 8 * MAX_VOXELS + MAX_EXTENSION_BYTES + MAX_FOOTER_BYTES
# Deflate cannot shrink data by more than this factor (https://www.zlib.net/zlib_tech.html).
MAX_DEFLATE_RATIO = 1032

GZIP_MAGIC = b"\x1f\x8b"
_NOT_GZIP = "Not a gzipped file"  # how Python's gzip names a member without its magic
_AGAIN = "Copy or convert the scan again from its source."


def load_volume(path: str | Path, name: str | None = None) -> Volume:
    """Read one 3-D scan and turn it to RAS+.

    Parameters
    ----------
    path : str or pathlib.Path
        Scan; for a pair either of its two files.
    name : str, optional
        What errors call the scan; its path when absent.

    Returns
    -------
    Volume
        Data float32 (I, J, K), C-contiguous, RAS+, scaled by the header's slope and intercept;
        affine float64 (4, 4).

    Raises
    ------
    VolumeError
        If the file is missing, damaged, not a single real 3-D volume, larger than declared or than
        the bounds in `headers`, or if its voxels are constant or not all finite.
    """
    return load_noted(path, name)[0]


def load_noted(path: str | Path, name: str | None = None) -> tuple[Volume, str]:
    """Read one 3-D scan as `load_volume` does, and say what had to be settled on the way.

    Returns
    -------
    volume : Volume
    note : str
        Contradictions of the header, voxels taken as outside, text that was ignored; empty
        for a plain scan. Holds no text of the file.

    Raises
    ------
    VolumeError
        As `load_volume` does.
    """
    where = name if name is not None else str(path)
    files = scan_files(path, where)
    try:
        header, raw, note = _read_first(files[0], where)
        if header.paired:
            raw, note = _read_image(files, header, where)
        elif len(files) > 1:
            problem = "the .hdr file holds voxels itself; expected a header beside an .img file."
            raise VolumeError(where, problem, "Rename it to .nii.")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(where, f"the gzip stream is damaged ({error}).", _AGAIN) from error
    except OSError as error:
        raise VolumeError(where, f"cannot be read ({error.strerror or error}).") from error
    volume, told = _build_volume(raw, header, where)
    return volume, "; ".join(filter(None, (header.note, note, told)))


def is_image(path: Path) -> bool:
    """Whether a file begins with a header of a known format."""
    try:
        with _open(path)[0] as stream:
            return is_header(stream.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error):
        return False


def scan_files(path: str | Path, where: str | None = None) -> tuple[Path, ...]:
    """Files that make up a scan: one, or header and image of a pair in that order.

    Raises
    ------
    VolumeError
        If one of them is missing, empty, too large or not a regular file.
    """
    named = where if where is not None else str(path)
    files: tuple[Path, ...] = (Path(path),)
    stem, suffix = _split_pair_name(files[0].name)
    if suffix:
        files = tuple(
            _first_existing(files[0].parent, stem, (part, f"{part}.gz", part.upper()))
            for part in (".hdr", ".img")
        )
    for file in files:
        _check_file(file, named)
    return files


def _split_pair_name(name: str) -> tuple[str, str]:
    for suffix in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def _first_existing(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path:
    candidates = [folder / f"{stem}{suffix}" for suffix in suffixes]
    return next((file for file in candidates if file.exists()), candidates[0])


def _check_file(file: Path, where: str) -> None:
    try:
        status = file.stat()
    except FileNotFoundError as error:
        told = explain_link(file) or (f"there is no file {file.name}.", "Check the path.")
        raise VolumeError(where, *told) from error
    except (OSError, ValueError) as error:
        raise VolumeError(where, f"cannot be opened ({error}).", "Check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        raise VolumeError(where, "is a folder, not a scan.", "Give one image file.")
    if not stat.S_ISREG(status.st_mode):
        raise VolumeError(where, "is not a regular file.", "Give one image file.")
    if status.st_size == 0:
        raise VolumeError(where, f"the file {file.name} is empty.", _AGAIN)
    if status.st_size > MAX_FILE_BYTES:
        rule = f"expected at most {MAX_FILE_BYTES} bytes, got {status.st_size} in {file.name}."
        raise VolumeError(where, rule, "Give a single T1 volume.")


def _open(file: Path) -> tuple[IO[bytes], bool]:
    with file.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    # GzipFile inflates only as much as is asked for, and checks each member's CRC at its end.
    return (cast(IO[bytes], gzip.open(file)) if packed else file.open("rb")), packed


def _read_first(file: Path, where: str) -> tuple[ScanHeader, bytearray, str]:
    """Header, and the voxels and a note where they follow it in the same file."""
    stream, packed = _open(file)
    with stream:
        head = stream.read(HEADER_BYTES)
        header = parse_header(head, where)
        if header.paired:
            return header, bytearray(), ""
        _check_declared(file, header, packed, where)
        # The header block may already hold the first voxels (NIfTI-1 starts them at byte 352).
        skip = header.data_offset - len(head)
        early = head[header.data_offset :] if skip < 0 else b""
        if skip > 0:
            stream.read(skip)
        return header, *_read_voxels(stream, early, header, where)


def _read_image(files: tuple[Path, ...], header: ScanHeader, where: str) -> tuple[bytearray, str]:
    if len(files) == 1:
        problem = "holds only a header; expected the voxels of an .img file beside it."
        raise VolumeError(where, problem, "Give the .hdr/.img pair under these names.")
    stream, packed = _open(files[1])
    with stream:
        _check_declared(files[1], header, packed, where)
        stream.read(header.data_offset)
        return _read_voxels(stream, b"", header, where)


def _check_declared(file: Path, header: ScanHeader, packed: bool, where: str) -> None:
    """Refuse by arithmetic alone a file that cannot hold what its header declares."""
    size, needed = file.stat().st_size, header.data_offset + header.data_bytes
    most = size * MAX_DEFLATE_RATIO if packed else size
    if needed > most:
        kind = "compressed bytes" if packed else "bytes"
        problem = f"the header declares {needed} bytes of data, the file has {size} {kind}."
        raise VolumeError(where, problem, _AGAIN)
    # Deflate lengthens incompressible data by a fraction of a percent at most.
    if size > needed * 1.01 + MAX_FOOTER_BYTES:
        raise VolumeError(where, _too_much(header), _AGAIN)


def _read_voxels(
    stream: IO[bytes], early: bytes, header: ScanHeader, where: str
) -> tuple[bytearray, str]:
    raw = bytearray(early)
    while len(raw) < header.data_bytes:
        chunk = stream.read(min(header.data_bytes - len(raw), 2**24))
        if not chunk:
            problem = (
                f"expected {header.data_bytes} bytes of voxels, the file ends after {len(raw)}."
            )
            raise VolumeError(where, problem, _AGAIN)
        raw += chunk
    # Reading on to the end is what verifies the checksum; one byte too many refuses a bomb.
    try:
        footer = stream.read(MAX_FOOTER_BYTES + 1)
    except gzip.BadGzipFile as error:
        # The checksum of what was read is right; what follows is not gzip (RFC 1952, 2.2).
        if not str(error).startswith(_NOT_GZIP):
            raise
        return raw, "bytes behind the end of the gzip stream were ignored"
    if len(footer) > MAX_FOOTER_BYTES:
        raise VolumeError(where, _too_much(header), _AGAIN)
    return raw, ""


def _too_much(header: ScanHeader) -> str:
    return f"the file holds far more than the {header.data_bytes} bytes its header declares."


def _build_volume(raw: bytearray, header: ScanHeader, where: str) -> tuple[Volume, str]:
    stored = np.frombuffer(raw, header.dtype, count=np.prod(header.shape, dtype=int))
    values, scaled = scale_voxels(stored, header.slope, header.inter)
    data, filled = fill_surroundings(values.reshape(header.shape, order="F"))
    _check_values(data, where)
    notes = filter(None, (scaled, filled, describe_background(data)))
    return _to_ras(data, header.affine), "; ".join(notes)


def _check_values(values: FloatArray, where: str) -> None:
    wrong = values.size - int(np.count_nonzero(np.isfinite(values)))
    if wrong:
        problem = f"{wrong} of {values.size} voxels are not finite numbers."
        raise VolumeError(where, problem, "Replace NaN and infinity, or convert the scan again.")
    if values.min() == values.max():
        raise VolumeError(where, f"every voxel is {values.flat[0]:g}: the image is empty.", _AGAIN)


def _to_ras(data: FloatArray, affine: DoubleArray) -> Volume:
    """Flip and permute the axes towards Right, Anterior, Superior; no voxel is interpolated."""
    orientation = io_orientation(affine)
    turned = affine @ inv_ornt_aff(orientation, data.shape)
    return Volume(np.ascontiguousarray(apply_orientation(data, orientation)), turned)
