"""How the pixels of a DICOM file are stored, and what dcm2niix would not see of that.

Attributes follow DICOM PS3.3, section C.7.6.3. Pixels are never decoded here.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Uncompressed transfer syntaxes: implicit and explicit little-endian, explicit big-endian.
PLAIN_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
# Compressed ones that dcm2niix decodes: lossless JPEG, JPEG-LS, JPEG 2000, RLE.
PACKED_SYNTAXES = (
    *("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    "1.2.840.10008.1.2.5",
)

# What all frames of a volume have in common.
_OF_FRAMES = (
    ("a scale", "PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept")),
    ("a scale", "RealWorldValueMappingSequence", ("RealWorldValueSlope",)),
    ("an echo time", "MREchoSequence", ("EffectiveEchoTime",)),
    ("a type", "MRImageFrameTypeSequence", ("FrameType", "ComplexImageComponent")),
)

_ITEM_TAG, _DELIMITER_TAG = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_PIXEL_ELEMENT_BYTES = 12  # tag, type and undefined length of the element that holds them
_YBR_FULL_422_SAMPLES = 2  # a pixel, on average: PS3.3, C.7.6.3.1.2


def hash_pixels(path: Path) -> str:
    """Hash the stored pixels of a file, to find copies."""
    import pydicom

    header = pydicom.dcmread(path, specific_tags=["PixelData"], force=True)
    return hashlib.sha256(header.get("PixelData", b"")).hexdigest()


def find_damage(header: "Dataset", path: Path, syntax: str, behind: int) -> str:
    """Say that the pixels, the last `behind` bytes of a file, are not all there; else empty."""
    packed = syntax in PACKED_SYNTAXES
    is_cut = _lacks_end(path, behind) if packed else _is_cut(header, syntax, behind)
    return "its file ends before its pixels do" if is_cut else ""


def find_encoding_problem(header: "Dataset") -> str:
    """Say why dcm2niix would make other values of the pixels than they are; else empty.

    It reads negatives as if they were none, stored bits as if they were the lowest ones, and of
    most manufacturers one scale for all frames of a file.
    """
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        return "its pixels are a negative (MONOCHROME1)"
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "its pixels are numbers of colours (PALETTE COLOR)"
    stored, highest = header.get("BitsStored"), header.get("HighBit")
    if stored and highest is not None and int(highest) != int(stored) - 1:
        return f"its pixels are not in the lowest bits (high bit {highest}, {stored} bits stored)"
    frames = header.get("PerFrameFunctionalGroupsSequence") or ()
    for told, sequence, names in _OF_FRAMES:
        if len({_values(frame, sequence, names) for frame in frames}) > 1:
            return f"each of its frames has {told} of its own ({names[0]})"
    return ""


def _values(frame: "Dataset", sequence: str, names: tuple[str, ...]) -> tuple[str, ...]:
    groups = frame.get(sequence) or [{}]
    return tuple(str(groups[0].get(name)) for name in names)


def _is_cut(header: "Dataset", syntax: str, behind: int) -> bool:
    """Whether uncompressed pixels cannot all be in the file; dcm2niix would not miss them."""
    samples = int(header.get("SamplesPerPixel", 1) or 1)
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = _YBR_FULL_422_SAMPLES
    frames = int(header.get("NumberOfFrames", 1) or 1)
    bits = int(header.Rows) * int(header.Columns) * samples * frames * int(header.BitsAllocated)
    return syntax in PLAIN_SYNTAXES and behind < bits // 8


def _lacks_end(path: Path, behind: int) -> bool:
    """Whether compressed pixels, the last `behind` bytes, have no end (PS3.5, section A.4).

    They are items, each a tag, its length and its bytes, until a delimiter.
    """
    with path.open("rb") as stream:
        stream.seek(_PIXEL_ELEMENT_BYTES - behind, os.SEEK_END)
        while (head := stream.read(8))[:4] == _ITEM_TAG:
            stream.seek(int.from_bytes(head[4:], "little"), os.SEEK_CUR)
    return head[:4] != _DELIMITER_TAG
