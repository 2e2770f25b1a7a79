"""Results that go back to where images live: measurements, report and picture as DICOM files.

All are of the source's patient and study, and say no more of the person than the source does. The
same findings on the same series give the same UIDs: sent twice, an archive keeps them once.
"""

import io
import json
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainage.extras import check_extra
from brainage.files import atomic_write_bytes, remove_old
from brainage.plotting.planes import RADIOLOGICAL, Orientation
from brainage.report.content import RESEARCH_ONLY, Report, build_report
from brainage.report.findings import Findings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NAMES = ("measurements.dcm", "report.dcm", "picture.dcm")
_KINDS = ("series", "object", "brain")
_CAPTION = 46  # height in pixels of each line below a picture


def check_dicom_extra() -> None:
    """Refuse to go on without what DICOM results need, before anything heavy is loaded.

    Raises
    ------
    MissingExtraError
        If highdicom, pydicom or Typst is not installed.
    """
    for module, extra in (("pydicom", "dicom"), ("highdicom", "dicom"), ("typst", "report")):
        check_extra(module, extra)


def build_objects(
    findings: Findings,
    sources: "Sequence[Dataset]",
    orientation: Orientation = RADIOLOGICAL,
    key: str = "",
) -> "dict[str, Dataset]":
    """Build the measurement report, the PDF and the picture, by the names of their files.

    Parameters
    ----------
    findings : Findings
        What was found.
    sources : sequence of pydicom.dataset.Dataset
        As `brainage.scans.dicom.source.read_source` returns them: the series that was measured.
    orientation : {"radiological", "neurological"}
        Whether the patient's left is on the right or the left of all pictures.
    key : str
        Tells results on a series apart, by their UIDs; absent: what was found.

    Returns
    -------
    dict of str to pydicom.dataset.Dataset
        Without the picture where there is no image to show.
    """
    from brainage.report.dicom_report import build_sr

    # It names nobody: who it is, the header says.
    report = build_report(findings, orientation=orientation)
    numbers = {name: value for name, value in report.numbers.items() if name != "made_on"}
    key = key or json.dumps(numbers, sort_keys=True)
    uids = {name: _uids(sources[0].SeriesInstanceUID, key, name) for name in NAMES}
    objects: dict[str, Dataset] = {NAMES[0]: build_sr(findings, report, sources, uids[NAMES[0]])}
    objects[NAMES[1]] = _build_pdf(findings, report, sources, uids[NAMES[1]])
    if report.planes is not None:
        objects[NAMES[2]] = _build_picture(findings, report, sources, uids[NAMES[2]])
    for one in objects.values():
        one.SpecificCharacterSet = "ISO_IR 192"  # names are text by now, of any alphabet
    return objects


def write_dicom(
    findings: Findings,
    sources: "Sequence[Dataset]",
    folder: Path,
    orientation: Orientation = RADIOLOGICAL,
    key: str = "",
) -> tuple[Path, ...]:
    """Write ``measurements.dcm``, ``report.dcm`` and ``picture.dcm``; returns their paths.

    Parameters are those of `build_objects`.

    Raises
    ------
    BrainageError
        If a file cannot be written.
    """
    contents = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names without first name: they quote the name
        for name, one in build_objects(findings, sources, orientation, key).items():
            stream = io.BytesIO()
            one.save_as(stream, enforce_file_format=True)
            contents[name] = stream.getvalue()
    for name in NAMES:
        # Killed in between, one file of a scan is better than three of two scans.
        remove_old(folder / name)
    for name, content in contents.items():
        atomic_write_bytes(folder / name, content)
    return tuple(folder / name for name in contents)


def _uids(series_uid: str, key: str, name: str) -> list[str]:
    """Return UIDs of series, object and brain."""
    from pydicom.uid import generate_uid

    said = ["brainage", series_uid, key, name]
    return [str(generate_uid(entropy_srcs=[*said, kind])) for kind in _KINDS]


def _build_pdf(
    findings: Findings, report: Report, sources: "Sequence[Dataset]", uids: Sequence[str]
) -> "Dataset":
    """Build an Encapsulated PDF (PS3.3, section A.45.1)."""
    from highdicom.base import SOPClass
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
    from pydicom.valuerep import DA, TM

    from brainage.report.page_pdf import render_pdf

    made = SOPClass(
        series_instance_uid=uids[0],
        series_number=9902,
        sop_instance_uid=uids[1],
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="Brain age, report",
        **_identity(findings, sources),
    )
    _copy_more(made, sources[0])
    content = render_pdf(report)
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "NO"
    made.AcquisitionDateTime = ""
    now = datetime.now()
    made.ContentDate, made.ContentTime = DA(now.date()), TM(now.time())
    made.DocumentTitle = "Brain age report. Research use only."
    title = Dataset()
    code = codes.DCM.ImagingMeasurementReport
    title.CodeValue, title.CodingSchemeDesignator = code.value, code.scheme_designator
    title.CodeMeaning = code.meaning
    made.ConceptNameCodeSequence = [title]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    made.SourceInstanceSequence = [_reference(one) for one in sources]
    return made


def _build_picture(
    findings: Findings, report: Report, sources: "Sequence[Dataset]", uids: Sequence[str]
) -> "Dataset":
    """Build a Secondary Capture of the planes with the result in words below them."""
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    made = SCImage(
        pixel_array=_draw_key_image(report),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # Planes of three directions stand side by side: rows and columns have no one direction.
        patient_orientation=("L", "F"),
        series_instance_uid=uids[0],
        series_number=9903,
        sop_instance_uid=uids[1],
        instance_number=1,
        series_description="Brain age, picture",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_identity(findings, sources),
    )
    made.PatientOrientation = []
    made.Laterality = ""
    _copy_more(made, sources[0])
    made.BurnedInAnnotation = "NO"
    made.SourceImageSequence = [_reference(one) for one in sources]
    return made


def _draw_key_image(report: Report) -> Any:
    """Draw planes (height, width, 3) with result and notice below, as uint8."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    assert report.planes is not None
    planes = Image.open(io.BytesIO(report.planes.png)).convert("RGB")
    result = f"Predicted age {report.headline}. {report.interval}" if report.headline else ""
    lines = [result or report.verdict_words, f"{report.verdict_words}. {RESEARCH_ONLY}"]
    sheet = Image.new("RGB", (planes.width, planes.height + _CAPTION * len(lines)))
    sheet.paste(planes, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font_path = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for number, line in enumerate(lines):
        size = _CAPTION - 20
        while size > 8 and draw.textlength(line, ImageFont.truetype(font_path, size)) > (
            planes.width - 20
        ):
            size -= 1
        place = (10, planes.height + number * _CAPTION + 8)
        draw.text(place, line, fill="white", font=ImageFont.truetype(font_path, size))
    return np.asarray(sheet)


def _identity(findings: Findings, sources: "Sequence[Dataset]") -> dict[str, Any]:
    """Return patient, study and equipment as highdicom's classes take them."""
    from brainage.report.dicom_report import equipment

    first = sources[0]
    return {
        "study_instance_uid": first.StudyInstanceUID,
        "patient_id": first.PatientID,
        "patient_name": first.PatientName,
        "patient_birth_date": first.PatientBirthDate,
        "patient_sex": first.PatientSex,
        "accession_number": first.AccessionNumber,
        "study_id": first.StudyID,
        "study_date": first.StudyDate,
        "study_time": first.StudyTime,
        "referring_physician_name": first.ReferringPhysicianName,
        **equipment(findings),
    }


def _copy_more(made: "Dataset", source: "Dataset") -> None:
    """Say as the source does that its identity was removed, and whose id it has."""
    for name in ("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod"):
        if name in source:
            setattr(made, name, source.get(name))


def _reference(source: "Dataset") -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item
