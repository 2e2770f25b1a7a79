"""Unpack foreign zip files: checked by what they declare, and under bounds."""

import gzip
import stat
import zipfile
import zlib
from pathlib import Path

from brainage.errors import VolumeError

MAX_ENTRIES = 20_000
# A zip without the 64-bit extension has at most 4 GiB; a T1 series has 0.05 to 0.5 GiB.
MAX_UNPACKED_BYTES = 2**31
# 16-bit scans shrink by 2 to 4, mostly empty ones by 50; deflate can pack 1032 into one.
MAX_RATIO = 200
# Below this, any ratio is harmless.
FREE_BYTES = 2**24
# The list of contents is read as a whole: at most so many bytes for each entry.
MAX_LISTING_BYTES = MAX_ENTRIES * 512

_CHUNK_BYTES = 2**20
_END_MAGIC, _END_BYTES, _MAX_COMMENT = b"PK\5\6", 22, 2**16
_LOCATOR_MAGIC, _LOCATOR_BYTES = b"PK\6\7", 20
ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")
_ARCHIVE_MAGICS = (*ZIP_MAGICS, b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh")
_ARCHIVE_SUFFIXES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".bz2", ".xz", ".jar")
_AGAIN = "Make the zip again from the folder of the series."


def is_zip(path: Path) -> bool:
    """Whether a file starts like a zip."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in ZIP_MAGICS
    except OSError:
        return False


def inflate_gzip(path: Path, target: Path, where: str, most: int = MAX_UNPACKED_BYTES) -> Path:
    """Inflate a gzip file into a new file, under a bound.

    Raises
    ------
    VolumeError
        If the stream is damaged or holds more than `most` bytes.
    """
    written = 0
    try:
        with gzip.open(path) as source, target.open("xb") as sink:
            while chunk := source.read(_CHUNK_BYTES):
                written += len(chunk)
                if written > most:
                    problem = f"a gzip file unfolds to more than {most} bytes."
                    raise VolumeError(where, problem, "Give one series alone.")
                sink.write(chunk)
    except (EOFError, zlib.error, OSError) as error:
        problem = f"a gzip file is damaged ({type(error).__name__})."
        raise VolumeError(where, problem, "Export the series again.") from error
    return target


def unpack_zip(path: Path, folder: Path, where: str) -> list[Path]:
    """Unpack the regular files of a zip into an empty folder, under names of our own.

    Names inside a zip can hold paths and patients' names: the files become ``000000``,
    ``000001``, … in the order of the zip, so no entry can be written outside `folder`.
    Entries with dangerous names are refused all the same, as signs of a forged file. Archives
    and office documents beside the scan are passed over and never unpacked.

    Parameters
    ----------
    path : pathlib.Path
        Zip.
    folder : pathlib.Path
        Existing folder, private to the caller, who removes it also after an error.
    where : str
        Scan named in errors.

    Returns
    -------
    list of pathlib.Path
        Files written.

    Raises
    ------
    VolumeError
        If the zip is damaged or encrypted, holds only archives, links or paths that leave it, or
        would unfold to more than the bounds of this module.
    """
    _check_listing(path, where)
    try:
        with zipfile.ZipFile(path) as archive:
            # Not `is_dir`, which in Python 3.11 takes an entry without a name for an IndexError.
            entries = [one for one in archive.infolist() if not one.filename.endswith("/")]
            _check_total(entries, where)
            for entry in entries:
                _check_entry(entry, where)
            written = [
                _unpack_entry(archive, entry, folder / f"{number:06d}", where)
                for number, entry in enumerate(entries)
            ]
            files = [file for file in written if file is not None]
            if entries and not files:
                problem = "the zip holds another archive and nothing else."
                raise VolumeError(where, problem, "Unpack that one and zip it alone.")
            return files
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        # The library's message names the entry, and so perhaps the patient.
        raise VolumeError(where, "the zip is damaged or of an unknown kind.", _AGAIN) from error
    except OSError as error:
        raise VolumeError(where, f"cannot be unpacked ({error.strerror}).") from error


def _check_listing(path: Path, where: str) -> None:
    """Refuse an endless list of contents before `zipfile` takes it into memory.

    The end record is described in the .ZIP File Format Specification (APPNOTE 6.3, 4.3.16).
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _END_BYTES - _MAX_COMMENT - _LOCATOR_BYTES))
            tail = stream.read()
    except OSError as error:
        raise VolumeError(where, f"cannot be read ({error.strerror}).") from error
    end = tail.rfind(_END_MAGIC)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise VolumeError(where, "the zip is damaged: its list of contents is missing.", _AGAIN)
    entries = int.from_bytes(tail[end + 10 : end + 12], "little")
    listing_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    is_zip64 = tail[max(0, end - _LOCATOR_BYTES) :].startswith(_LOCATOR_MAGIC)
    if is_zip64 or entries > MAX_ENTRIES or listing_bytes > MAX_LISTING_BYTES:
        count = "a 64-bit list of" if is_zip64 else str(entries)
        problem = f"expected at most {MAX_ENTRIES} files in the zip, got {count} entries."
        raise VolumeError(where, problem, "Zip one series alone.")


def _check_total(entries: list[zipfile.ZipInfo], where: str) -> None:
    if len(entries) > MAX_ENTRIES:
        problem = f"expected at most {MAX_ENTRIES} files in the zip, got {len(entries)}."
        raise VolumeError(where, problem, "Zip one series alone.")
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(1, sum(entry.compress_size for entry in entries))
    if unpacked > MAX_UNPACKED_BYTES:
        problem = f"the zip unfolds to {unpacked} bytes, at most {MAX_UNPACKED_BYTES} are allowed."
        raise VolumeError(where, problem, "Zip one series alone.")
    if unpacked > FREE_BYTES and unpacked / packed > MAX_RATIO:
        problem = (
            f"the zip unfolds {packed} bytes to {unpacked}, {unpacked // packed} times as many; "
            f"scans stay under {MAX_RATIO} times."
        )
        raise VolumeError(where, problem, _AGAIN)


def _check_entry(entry: zipfile.ZipInfo, where: str) -> None:
    parts = entry.filename.replace("\\", "/").split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.flag_bits & 0x1:
        raise VolumeError(where, "the zip is encrypted.", "Give it without a password.")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        problem = "an entry of the zip points outside it (path traversal, absolute or no path)."
        raise VolumeError(where, problem, _AGAIN)
    if kind not in (0, stat.S_IFREG):
        raise VolumeError(where, "the zip holds a link or a special file.", _AGAIN)


def _unpack_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, where: str
) -> Path | None:
    """Write one entry; None for an archive, which is not unpacked."""
    if entry.filename.lower().endswith(_ARCHIVE_SUFFIXES):
        return None
    written = 0
    with archive.open(entry) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK_BYTES):
            if written == 0 and chunk.startswith(_ARCHIVE_MAGICS):
                sink.close()
                target.unlink()
                return None
            written += len(chunk)
            # What was declared has passed the bounds; what really comes out has to keep to it.
            if written > entry.file_size:
                raise VolumeError(where, "an entry of the zip is larger than it declares.", _AGAIN)
            sink.write(chunk)
    return target
