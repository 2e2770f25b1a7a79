"""Look for marks in everything that was written: in files, and in what they have packed away."""

import base64
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pypdf import PdfReader

_BASE64 = re.compile(rb"base64,\s*([A-Za-z0-9+/=]{16,})")
_PDF_STREAM = re.compile(rb"stream\r?\n(.*?)(?:\r?\n)?endstream", re.DOTALL)


def layers(content: bytes) -> Iterator[bytes]:
    """The bytes themselves, then those packed in them: gzip, zip, PDF streams, base64 pictures."""
    yield content
    for packed in _unpack(content):
        yield from layers(packed)


def _unpack(content: bytes) -> Iterator[bytes]:
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    elif content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                yield entry.filename.encode()
                yield archive.read(entry)
    elif content[:5] == b"%PDF-":
        # Streams of a page number the glyphs of a font: its text has to be read.
        for page in PdfReader(io.BytesIO(content)).pages:
            yield page.extract_text().encode()
        for stream in _PDF_STREAM.findall(content):
            yield _inflate(stream)
    else:
        for picture in _BASE64.findall(content):
            yield base64.b64decode(picture + b"==")


def _inflate(stream: bytes) -> bytes:
    """What a stream of a PDF holds, packed by Flate or not at all."""
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream


def spellings(mark: str | float) -> set[bytes]:
    """How a mark may stand in a file: text in two encodings; a number as text or as a float."""
    text = mark if isinstance(mark, str) else f"{mark:.6g}"
    found = {text.encode(), text.encode("utf-16-le")}
    if isinstance(mark, float):
        found |= {struct.pack("<d", mark)}
    return found


def find_marks(content: bytes, marks: Iterable[str | float]) -> set[str]:
    """Marks that stand anywhere in some bytes."""
    by_spelling = {spelling.lower(): mark for mark in marks for spelling in spellings(mark)}
    pattern = re.compile(b"|".join(map(re.escape, by_spelling)))
    found = {match for layer in layers(content) for match in pattern.findall(layer.lower())}
    return {str(by_spelling[match]) for match in found}


def search(folder: Path, marks: Iterable[str | float]) -> dict[str, set[str]]:
    """Marks in names and contents of the files of a folder, by the files' paths."""
    marks, found = list(marks), {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes() if path.is_file() else b""
        marked = find_marks(content, marks) | find_marks(name.encode(), marks)
        if marked:
            found[name] = marked
    return found
