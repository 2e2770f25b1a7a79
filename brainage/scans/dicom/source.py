"""Headers of the series that a volume comes from: what results refer to, and whose they are.

Results that go back to an archive need the patient and the examination of their source. These
headers are read for that alone, and no text of theirs reaches a log or a message.
"""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainage.errors import VolumeError
from brainage.scans.dicom.read import read_images
from brainage.scans.dicom.series import choose_series, list_series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Of all objects that this program makes; by it they are known again.
MANUFACTURER = "The brainage developers"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# PS3.3, C.7.1.1 and C.7.2.1: what every object of a patient's study says, empty where unknown.
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_WHERE_KNOWN = ("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod")
_FORMS = {
    "PatientBirthDate": re.compile(r"\d{8}"),
    "PatientSex": re.compile(r"[MFO]"),
    "StudyDate": re.compile(r"\d{8}"),
    "StudyTime": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "PatientIdentityRemoved": re.compile(r"YES|NO"),
}


def read_source(files: Iterable[Path], where: str, *, series: str | None = None) -> "list[Dataset]":
    """Read who and what the images of the chosen T1 series are, without pixels.

    Parameters
    ----------
    files, where, series
        As in `brainage.scans.dicom.convert.read_dicom`, which takes the same series.

    Returns
    -------
    list of pydicom.dataset.Dataset
        One an image: its UIDs, and the patient's and study's attributes that every result of the
        study repeats. What is no valid value of an attribute is left empty.

    Raises
    ------
    VolumeError
        If no series can be chosen, or its images lack a UID.
    """
    chosen, _ = choose_series(list_series(read_images(files, where)), series, where)
    return [_read(image.path, where) for image in chosen.images]


def _read(path: Path, where: str) -> "Dataset":
    import pydicom
    from pydicom.dataset import Dataset

    names = [*_UIDS, *_PATIENT, *_STUDY, *_WHERE_KNOWN]
    kept = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote what is not to be seen
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=list(names), force=True
        )
        values = {name: _text(header.get(name)) for name in names}
    for name, text in values.items():
        if name in _FORMS and not _FORMS[name].fullmatch(text):
            text = ""
        if name in _UIDS and not text:
            problem = f"an image of the series has no {name}, so no result can refer to it."
            raise VolumeError(where, problem, "Export the series again.")
        if text or name not in _WHERE_KNOWN:
            setattr(kept, name, text)
    return kept


def _text(value: Any) -> str:
    """Return a value as text, several of them joined as in a file."""
    from pydicom.multival import MultiValue

    parts = value if isinstance(value, MultiValue) else [value]
    return "\\".join(str(part).strip() for part in parts if part is not None)
