"""DICOM headers: what is needed to choose and check a series, and nothing about the patient.

Attributes follow DICOM PS3.3 (https://dicom.nema.org/medical/dicom/current/output/html/part03.html).
Pixels are never decoded here.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainage.errors import VolumeError
from brainage.extras import check_extra
from brainage.scans.dicom.pixels import PLAIN_SYNTAXES, find_damage, find_encoding_problem

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FILES = 20_000

_DEFLATED = "1.2.840.10008.1.2.1.99"

_TAGS = [
    "BitsAllocated", "BitsStored", "Columns", "ComplexImageComponent", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "EchoTime", "EffectiveEchoTime",
    "HighBit", "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "InversionTime",
    "InversionTimes", "MREchoSequence", "MRModifierSequence",
    "MRTimingAndRelatedParametersSequence",
    "Modality", "NumberOfFrames",
    "PatientAge", "PatientBirthDate", "PatientID", "PatientName", "PatientSex",
    "PerFrameFunctionalGroupsSequence", "PhotometricInterpretation", "PixelMeasuresSequence",
    "PixelSpacing", "PixelValueTransformationSequence", "PlaneOrientationSequence",
    "PlanePositionSequence", "ProtocolName",
    "RepetitionTime", "Rows", "SOPClassUID", "SamplesPerPixel", "ScanningSequence",
    "SeriesDescription", "SeriesInstanceUID",
    "SeriesNumber", "SeriesTime", "SharedFunctionalGroupsSequence", "StudyDate",
    "StudyInstanceUID", "StudyTime",
]  # fmt: skip
_AGE = re.compile(r"([0-9]{1,3})([DWMY])")
_OLDEST_YEARS = 120.0
_AGE_UNIT_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_NO_AGENT = ("", "none", "no", "n", "n/a", "na", "nil", "0", "-", "no contrast", "without")
# A shorter part of a name or id says nothing, and hiding it would spoil ordinary words.
_SHORTEST_SECRET = 3

Vector = tuple[float, ...]


@dataclass(frozen=True)
class DicomImage:
    """Header of one DICOM file with an image.

    Attributes
    ----------
    path : pathlib.Path
        File; its name may tell who the patient is and is never shown.
    series_uid, series_number, description : str
        Series; the description is without any word that is the patient's.
    modality : str
        MR, CT, …
    image_type : tuple of str
        ImageType, such as ORIGINAL, PRIMARY, M, NORM, and ComplexImageComponent.
    transfer_syntax : str
        UID of the encoding.
    matrix : tuple of int (2,)
        Rows and columns.
    pixel_mm : tuple of float (2,)
        Distance between rows and between columns.
    orientation : tuple of float (6,)
        Direction cosines of a row and a column; empty where there are none.
    positions_mm : tuple of tuple of float (3,)
        Place of the first pixel of every frame.
    echo_ms, repetition_ms, inversion_ms : float, optional
        Sequence timing.
    age_years : float, optional
        PatientAge; used only where the user asks for it.
    sex : str
        F or M of PatientSex, else empty; used only where the user asks for it.
    patient : tuple of str (2,)
        PatientID and name, compared to tell patients apart, never shown.
    contrast_agent : bool
        Whether one was given, as far as the header says.
    echo_planar : bool
        Whether the sequence reads out echo-planar (EPI).
    damage, encoding_problem : str
        What is wrong with its pixels, and why dcm2niix would take them for others; empty if
        nothing is.
    study_uid : str
        Examination.
    taken : tuple of str (3,)
        Date and time of the examination and time of the series: they order, and are never shown.
    frames_in_order : bool
        Whether the numbers that a file gives its frames ascend, in all their parts.
    """

    path: Path
    series_uid: str
    series_number: str
    description: str
    modality: str
    image_type: tuple[str, ...]
    transfer_syntax: str
    matrix: tuple[int, int]
    pixel_mm: Vector
    orientation: Vector
    positions_mm: tuple[Vector, ...]
    echo_ms: float | None
    repetition_ms: float | None
    inversion_ms: float | None
    age_years: float | None = field(repr=False)
    patient: tuple[str, str] = field(repr=False)
    contrast_agent: bool = False
    echo_planar: bool = False
    damage: str = ""
    encoding_problem: str = ""
    study_uid: str = ""
    taken: tuple[str, ...] = field(default=(), repr=False)
    frames_in_order: bool = True
    sex: str = field(default="", repr=False)


def is_dicom(path: Path) -> bool:
    """Whether a file starts like DICOM, with its preamble (PS3.10, section 7.1) or without."""
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    return begins_like_dicom(head)


def begins_like_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM."""
    return has_preamble(head) or _starts_with_element(head)


def has_preamble(head: bytes) -> bool:
    """Whether the first 132 bytes of a file end in DICOM's mark."""
    return head[128:132] == b"DICM"


def _starts_with_element(head: bytes) -> bool:
    """Whether a file starts with a short element of group 8, as data sets without preamble do."""
    if len(head) < 132 or head[:2] != b"\x08\0" or head[3] != 0:
        return False
    is_explicit = head[4:6] in (b"UL", b"CS", b"UI", b"DA", b"TM", b"SH", b"LO")
    return is_explicit or int.from_bytes(head[4:8], "little") <= 256


def list_files(folder: Path, where: str) -> list[Path]:
    """All files below a folder in a fixed order, hidden ones and DICOMDIR left out.

    Raises
    ------
    VolumeError
        If there are more than `MAX_FILES`.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        kept = (name for name in sorted(names) if not name.startswith("."))
        found += [Path(parent) / name for name in kept if name.upper() != "DICOMDIR"]
        if len(found) > MAX_FILES:
            problem = f"expected at most {MAX_FILES} files in the folder."
            raise VolumeError(where, problem, "Give the folder of one examination.")
    return found


def read_images(files: Iterable[Path], where: str) -> list[DicomImage]:
    """Headers of those files that are DICOM images; others are passed over.

    Raises
    ------
    VolumeError
        If a DICOM file is damaged, or none of the files is DICOM.
    """
    check_extra("pydicom", "dicom")
    images = []
    for number, path in enumerate(files, start=1):
        if not is_dicom(path):
            continue
        try:
            image = _read_image(path)
        except Exception as error:  # a damaged header makes pydicom raise nearly anything
            problem = f"DICOM file {number} is damaged ({type(error).__name__})."
            raise VolumeError(where, problem, "Export the series again.") from error
        if image is not None:
            images.append(image)
    if not images:
        raise VolumeError(
            where, "holds no DICOM image.", "Give the folder or zip of one T1 series."
        )
    return images


def _read_header(path: Path) -> "tuple[Dataset | None, str, int]":
    """Header, transfer syntax, and bytes behind the header; no header where that is unsafe."""
    import pydicom
    from pydicom.filereader import read_file_meta_info

    syntax = ""
    with path.open("rb") as stream:
        if has_preamble(stream.read(132)):
            syntax = str(read_file_meta_info(path).get("TransferSyntaxUID", "unknown"))
        if syntax == _DEFLATED:
            # Reading on would inflate the whole file without a bound.
            return None, syntax, 0
        stream.seek(0)
        header = pydicom.dcmread(
            stream, stop_before_pixels=True, specific_tags=list(_TAGS), force=not syntax
        )
        behind = path.stat().st_size - stream.tell()
    return header, syntax or PLAIN_SYNTAXES[0 if header.original_encoding[0] else 1], behind


def _is_image(header: "Dataset") -> bool:
    """Whether it is no report, presentation state, …, and has pixels.

    Raises
    ------
    EOFError
        If it is MRI without pixels: the file ends before them.
    """
    from pydicom.uid import UID

    meta = getattr(header, "file_meta", {})
    kind = meta.get("MediaStorageSOPClassUID", "") or header.get("SOPClassUID", "")
    name = UID(kind).name
    has_pixels = "Rows" in header and "Columns" in header
    if not has_pixels and name.endswith("MR Image Storage"):
        raise EOFError("the file ends before its pixels do")
    return has_pixels and name.endswith("Image Storage")


def _read_image(path: Path) -> DicomImage | None:
    header, syntax, behind = _read_header(path)
    if header is None:
        return _blank(path, syntax)
    if not _is_image(header):
        return None
    groups = _FunctionalGroups(header)
    pixel = groups.first("PixelMeasuresSequence", "PixelSpacing")
    orientation = groups.first("PlaneOrientationSequence", "ImageOrientationPatient")
    echo = groups.first("MREchoSequence", "EffectiveEchoTime", "EchoTime")
    repetition = groups.first("MRTimingAndRelatedParametersSequence", "RepetitionTime")
    inversion = groups.first("MRModifierSequence", "InversionTimes", "InversionTime")
    return DicomImage(
        path=path,
        series_uid=str(header.get("SeriesInstanceUID", "")),
        series_number=str(header.get("SeriesNumber", "") or ""),
        description=_describe(header),
        modality=str(header.get("Modality", "") or "unknown"),
        image_type=tuple(
            str(part).upper()
            for name in ("ImageType", "ComplexImageComponent")
            for part in _as_list(header.get(name))
        ),
        transfer_syntax=syntax,
        matrix=(int(header.Rows), int(header.Columns)),
        pixel_mm=_numbers(pixel),
        orientation=_numbers(orientation),
        positions_mm=tuple(_numbers(position) for position in groups.positions()),
        echo_ms=_number(echo),
        repetition_ms=_number(repetition),
        inversion_ms=_number(inversion),
        age_years=parse_age_string(str(header.get("PatientAge", "") or "")),
        sex=found if (found := str(header.get("PatientSex", ""))) in ("F", "M") else "",
        patient=identify_patient(header),
        contrast_agent=_was_agent_given(header, groups),
        echo_planar="EP" in _as_list(header.get("ScanningSequence")),
        damage=find_damage(header, path, syntax, behind),
        encoding_problem=find_encoding_problem(header),
        study_uid=str(header.get("StudyInstanceUID", "") or ""),
        taken=tuple(
            str(header.get(name, "") or "") for name in ("StudyDate", "StudyTime", "SeriesTime")
        ),
        frames_in_order=groups.are_in_order(),
    )


def identify_patient(header: "Dataset") -> tuple[str, str]:
    """Id and name; empty components at the end of a name mean nothing (PS3.5, section 6.2.1)."""
    name = re.sub(r"[\s^=]+$", "", str(header.get("PatientName", "") or ""))
    return str(header.get("PatientID", "") or "").strip(), name.casefold()


def _was_agent_given(header: "Dataset", groups: "_FunctionalGroups") -> bool:
    """Whether the header names a contrast agent, and does not say that it came later."""
    agent = str(header.get("ContrastBolusAgent", "") or "").strip().lower()
    usage = groups.first("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered")
    return agent not in _NO_AGENT or (
        bool(header.get("ContrastBolusAgentSequence")) and usage != "NO"
    )


def _blank(path: Path, syntax: str) -> DicomImage:
    return DicomImage(
        path,
        "",
        "",
        "",
        "unknown",
        (),
        syntax,
        (0, 0),
        (),
        (),
        (),
        None,
        None,
        None,
        None,
        ("", ""),
    )


class _FunctionalGroups:
    """Geometry of single-frame images, and of enhanced ones (PS3.3, section C.7.6.16)."""

    def __init__(self, header: "Dataset") -> None:
        self._header = header
        self._shared = _as_list(header.get("SharedFunctionalGroupsSequence"))
        self._frames = _as_list(header.get("PerFrameFunctionalGroupsSequence"))

    def first(self, sequence: str, keyword: str, single_frame: str = "") -> Any:
        """Value in the header itself, else in the shared groups, else in the first frame's.

        `single_frame` is the keyword of single-frame images, where that is another.
        """
        if (single_frame or keyword) in self._header:
            return self._header.get(single_frame or keyword)
        found = (_group_value(item, sequence, keyword) for item in [*self._shared, *self._frames])
        return next((value for value in found if value is not None), None)

    def are_in_order(self) -> bool:
        """Whether both indices of the frames ascend (FrameContentSequence)."""
        for keyword in ("DimensionIndexValues", "InStackPositionNumber"):
            found = [_group_value(one, "FrameContentSequence", keyword) for one in self._frames]
            numbers = [_as_list(value) for value in found]
            if numbers != sorted(numbers):
                return False
        return True

    def positions(self) -> list[Any]:
        """ImagePositionPatient of every frame that has one."""
        if "ImagePositionPatient" in self._header:
            return [self._header.ImagePositionPatient]
        name, keyword = "PlanePositionSequence", "ImagePositionPatient"
        found = (_group_value(frame, name, keyword) for frame in self._frames)
        return [value for value in found if value is not None]


def _group_value(item: "Dataset", sequence: str, keyword: str) -> Any:
    inner = _as_list(item.get(sequence))
    return inner[0].get(keyword) if inner else None


def _describe(header: "Dataset") -> str:
    """Return description of the series without the patient: some sites write names into it."""
    text = str(header.get("SeriesDescription", "") or header.get("ProtocolName", "") or "")
    for keyword in ("PatientName", "PatientID", "PatientBirthDate"):
        for part in re.split(r"[\W_]+", str(header.get(keyword, "") or "")):
            if len(part) >= _SHORTEST_SECRET:
                text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return "".join(sign for sign in text if sign.isprintable())[:64]


def parse_age_string(text: str) -> float | None:
    """Years from a DICOM age string such as 045Y or 018M (PS3.5, section 6.2); None if none.

    Programs that take the identity away write 000Y or 999Y for an age that is not told.
    """
    match = _AGE.fullmatch(text.strip())
    years = int(match[1]) * _AGE_UNIT_YEARS[match[2]] if match else 0.0
    return years if 0.0 < years <= _OLDEST_YEARS else None


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _numbers(value: Any) -> Vector:
    return tuple(float(part) for part in _as_list(value))


def _number(value: Any) -> float | None:
    numbers = [] if value is None or value == "" else _as_list(value)
    return float(numbers[0]) if numbers else None
