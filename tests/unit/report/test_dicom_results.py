"""Results as DICOM: whose they are, what they say, and what validators say of them."""

import io
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from brainage.errors import VolumeError
from brainage.report import Findings, ModelIdentity
from brainage.report.dicom_files import NAMES, build_objects, write_dicom
from brainage.scans.open import read_source_headers
from brainage.types import Volume
from tests.dicom_helpers import SECRETS, make_head, write_series, zip_files

pytest.importorskip("highdicom")
MODEL = ModelIdentity("oasis", "brainage version 3", "ab" * 32, {"network": "cnn3d_light"})
HEAD = make_head()


def findings(**changes: Any) -> Findings:
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -90, -120, -70
    data = np.random.default_rng(0).random((24, 28, 24), dtype=np.float32)
    mask = np.zeros(data.shape, dtype=bool)
    mask[5:19, 5:22, 5:19] = True
    usual = Findings(
        label="scan", verdict="flagged", reasons=("noise 0.31 is above 0.2",),
        recognised="raw head", measures={}, model=MODEL, predicted_age_years=57.04,
        interval_years=(46.0, 68.0), age_years=50.0,
        volumes_ml={"grey": 700.0, "white": 500.0, "fluid": 300.0, "ventricles": 40.0},
        image=Volume(data, affine), mask=mask,
    )  # fmt: skip
    return replace(usual, **changes)


def without_image(**changes: Any) -> Findings:
    """Quicker: no picture is drawn."""
    return findings(image=None, mask=None, **changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_series(
        folder, HEAD, InstitutionName="SECRETPLACE", PatientComments="SECRETCOMMENT",
        AccessionNumber="A77", StudyID="S5",
    )  # fmt: skip
    write_series(folder / "t2", HEAD, number=9, description="t2_tse", EchoTime=90.0)
    return folder


@pytest.fixture(scope="module")
def written(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_dicom(findings(), read_source_headers(source, "scan"), folder)
    return folder


@pytest.fixture(scope="module")
def objects(written) -> dict[str, pydicom.Dataset]:
    return {name: pydicom.dcmread(written / name) for name in NAMES}


def leaves(item: pydicom.Dataset) -> list[pydicom.Dataset]:
    below = [leaf for one in item.get("ContentSequence", []) for leaf in leaves(one)]
    return [item, *below]


def numbers(report: pydicom.Dataset) -> dict[str, tuple[float, str]]:
    found = {}
    for item in leaves(report):
        if item.ValueType == "NUM":
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            for site in item.get("ContentSequence", []):
                name += f" of {site.ConceptCodeSequence[0].CodeValue}"
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            found[name] = float(value.NumericValue), unit
    return found


def test_measurements_are_the_findings_with_their_units(objects):
    found = numbers(objects[NAMES[0]])
    assert found["Predicted age of the brain"] == (57.04, "a")
    assert found["Lower limit of the interval of predicted age"] == (46.0, "a")
    assert found["Upper limit of the interval of predicted age"] == (68.0, "a")
    assert found["Share of ages that the interval shall hold"] == (90.0, "%")
    assert found["Brain-age gap, predicted minus given age"] == (7.04, "a")
    # SNOMED CT: grey and white matter, cerebrospinal fluid, ventricles.
    assert found["Volume of 389081007"] == (700.0, "mL")
    assert found["Volume of 389080008"] == (500.0, "mL")
    assert found["Volume of 65216001"] == (300.0, "mL")
    assert found["Volume of 35764002"] == (40.0, "mL")


def test_report_names_verdict_reasons_and_the_model(objects):
    items = leaves(objects[NAMES[0]])
    codes = [item.ConceptCodeSequence[0].CodeValue for item in items if item.ValueType == "CODE"]
    texts = [item.TextValue for item in items if item.ValueType == "TEXT"]
    assert "flagged" in codes and "noise 0.31 is above 0.2" in texts
    assert any("Research use only" in text for text in texts)
    assert "brainage, oasis" in texts and f"weights SHA-256 {'ab' * 32}" in texts
    assert objects[NAMES[0]].ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_every_image_of_the_chosen_series_is_referred_to_and_no_other(source, objects):
    headers = [pydicom.dcmread(path) for path in source.glob("*.dcm")]
    own = {header.SOPInstanceUID for header in headers}
    assert len(own) == 26
    items = [item for item in leaves(objects[NAMES[0]]) if item.ValueType == "IMAGE"]
    assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items} == own
    for name, sequence in (
        ("report", "SourceInstanceSequence"),
        ("picture", "SourceImageSequence"),
    ):
        referred = objects[f"{name}.dcm"][sequence].value
        assert {item.ReferencedSOPInstanceUID for item in referred} == own


def test_all_are_of_the_patient_and_study_each_in_a_series_of_its_own(objects):
    for one in objects.values():
        assert str(one.PatientName) == "^".join(SECRETS[:2]) and one.PatientID == SECRETS[2]
        assert (one.PatientBirthDate, one.PatientSex) == (SECRETS[3], "O")
        assert one.StudyInstanceUID == "1.2.3.4" and one.StudyDate == "20200101"
        assert (one.AccessionNumber, one.StudyID) == ("A77", "S5")
    assert len({one.SeriesInstanceUID for one in objects.values()}) == 3
    assert len({one.SOPInstanceUID for one in objects.values()}) == 3


def test_nothing_more_of_the_person_is_copied(objects):
    for one in objects.values():
        stream = io.BytesIO()
        one.save_as(stream)
        assert b"SECRETPLACE" not in stream.getvalue()
        assert b"SECRETCOMMENT" not in stream.getvalue()
        assert "PatientAge" not in one


def test_a_source_whose_identity_was_removed_stays_without(tmp_path):
    nothing = dict.fromkeys(["PatientName", "PatientID", "PatientBirthDate", "PatientSex"], "")
    marks = {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"}
    write_series(tmp_path / "in", HEAD, **nothing, **marks)
    paths = write_dicom(without_image(), read_source_headers(tmp_path / "in", "scan"), tmp_path)
    for path in paths:
        one = pydicom.dcmread(path)
        assert not any(one[name].value for name in nothing)
        assert (one.PatientIdentityRemoved, one.DeidentificationMethod) == ("YES", "by hand")


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎"), ("ISO_IR 100", "Alone")],
    ids=["latin", "unicode", "one part"],
)
def test_names_of_any_alphabet_arrive_whole_and_are_told_to_no_one(
    charset, name, tmp_path, capfd, caplog
):
    write_series(tmp_path / "in", HEAD, SpecificCharacterSet=charset, PatientName=name)
    caplog.set_level("DEBUG")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        headers = read_source_headers(tmp_path / "in", "scan")
        paths = write_dicom(without_image(), headers, tmp_path)
    for path in paths:
        assert str(pydicom.dcmread(path).PatientName) == name
    said = "".join([*capfd.readouterr(), caplog.text, *(str(one.message) for one in told)])
    assert name not in said


def test_failed_scan_has_a_report_with_reasons_and_no_age(source, tmp_path):
    failed = without_image(verdict="failed", reasons=("no T1 scan",), volumes_ml={})
    write_dicom(failed, read_source_headers(source, "scan"), tmp_path)
    report = pydicom.dcmread(tmp_path / NAMES[0])
    assert numbers(report) == {}
    assert "no T1 scan" in [i.TextValue for i in leaves(report) if i.ValueType == "TEXT"]


def test_same_findings_have_the_same_uids_and_others_have_others(source):
    headers = read_source_headers(source, "scan")
    one, again, other = (
        build_objects(without_image(age_years=age), headers) for age in (50.0, 50.0, 51.0)
    )
    for name in NAMES[:2]:
        assert one[name].SOPInstanceUID == again[name].SOPInstanceUID != other[name].SOPInstanceUID


def test_headers_are_found_in_a_zip_and_refused_in_a_file_that_is_no_dicom(source, tmp_path):
    path = zip_files(tmp_path / "scan.zip", sorted(source.glob("*.dcm")))
    assert len(read_source_headers(path, "scan")) == 26
    other = tmp_path / "scan.nii"
    other.write_bytes(b"\\\\" * 400)
    with pytest.raises(VolumeError, match="no DICOM"):
        read_source_headers(other, "scan")


@pytest.mark.parametrize("verdict", ["flagged", "failed"])
def test_validator_has_no_error(verdict, source, written, tmp_path):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")
    folder = written
    if verdict == "failed":
        folder = tmp_path
        write_dicom(findings(verdict="failed"), read_source_headers(source, "scan"), folder)
    for name in NAMES:
        said = subprocess.run([program, folder / name], capture_output=True, text=True)
        wrong = [line for line in said.stderr.splitlines() if line.startswith(("Error", "Abort"))]
        assert wrong == [] and said.returncode == 0, said.stderr


def test_dcmtk_reads_report_and_pdf(written, tmp_path):
    if shutil.which("dsrdump") is None or shutil.which("dcm2pdf") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    said = subprocess.run(["dsrdump", written / NAMES[0]], capture_output=True, text=True)
    assert said.returncode == 0 and "Predicted age of the brain" in said.stdout
    subprocess.run(["dcm2pdf", written / NAMES[1], tmp_path / "r.pdf"], check=True)
    content = (tmp_path / "r.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"%%EOF" in content[-8:]


def test_picture_shows_the_planes_and_words_below_them(objects):
    one = objects[NAMES[2]]
    assert one.pixel_array.shape == (one.Rows, one.Columns, 3)
    assert one.pixel_array[-92:].max() > 200  # words on black
