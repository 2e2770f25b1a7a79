"""Sound DICOM examinations of strange form: read, and what was left out is said."""

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from brainage.errors import VolumeError
from brainage.scans.dicom.read import list_files, read_images
from brainage.scans.dicom.series import (
    _find_step_problem,
    check_one_patient,
    find_weighting,
    list_series,
)
from brainage.scans.open import read_scan, scan_series
from brainage.types import Volume
from tests.dicom_helpers import make_head, make_zip, write_series

HEAD = make_head()


def edit(file: Path, **fields: object) -> None:
    header = pydicom.dcmread(file)
    for name, value in fields.items():
        setattr(header, name, value)
    header.save_as(file)


@pytest.mark.parametrize("copied", [(3,), (0, 9, 25), tuple(range(26))])
def test_identical_copies_are_left_out_and_counted(copied: tuple[int, ...], tmp_path: Path) -> None:
    files = write_series(tmp_path, HEAD)
    for number in copied:
        shutil.copy(files[number], tmp_path / f"copy{number}")
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.volume.data, HEAD.data)
    assert f"{len(copied)} identical" in scan.note


def test_other_pixels_at_the_same_place_are_no_copy(tmp_path: Path) -> None:
    files = write_series(tmp_path, HEAD)
    shutil.copy(files[3], tmp_path / "copy")
    edit(tmp_path / "copy", PixelData=pydicom.dcmread(files[4]).PixelData)
    with pytest.raises(VolumeError, match="1 slices lie where another one does"):
        read_scan(tmp_path)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_are_read(implicit: bool, tmp_path: Path) -> None:
    for file in write_series(tmp_path, HEAD):
        header = pydicom.dcmread(file)
        plain = Dataset({element.tag: element for element in header})
        plain.save_as(file, implicit_vr=implicit, little_endian=True)
    assert np.array_equal(read_scan(tmp_path).volume.data, HEAD.data)


def test_gzipped_files_are_read_alone_and_among_others(tmp_path: Path) -> None:
    files = write_series(tmp_path, HEAD)
    for file in files[::2]:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert np.array_equal(read_scan(tmp_path).volume.data, HEAD.data)
    with pytest.raises(VolumeError, match="1 slices"):
        read_scan(tmp_path / f"{files[0].name}.gz")


def test_what_lies_beside_the_series_is_passed_over(tmp_path: Path) -> None:
    entries = {file.name: file.read_bytes() for file in write_series(tmp_path / "in", HEAD)}
    archive = make_zip(tmp_path / "table.xlsx", {"sheet": b"1"}).read_bytes()
    entries |= {"table.xlsx": archive, "viewer.zip": archive, "table.dat": archive}
    assert np.array_equal(
        read_scan(make_zip(tmp_path / "exam.zip", entries)).volume.data, HEAD.data
    )


def test_only_damage_in_the_chosen_series_counts(tmp_path: Path) -> None:
    write_series(tmp_path / "a", HEAD)
    other = write_series(tmp_path / "b", HEAD, number=9, description="t2")[4]
    other.write_bytes(other.read_bytes()[:-100])
    assert "series 3" in read_scan(tmp_path).note
    with pytest.raises(VolumeError, match="is damaged"):
        read_scan(tmp_path, series="9")


@pytest.mark.parametrize("missing", [0, 1])
def test_subsampled_colour_needs_two_samples_a_pixel(missing: int, tmp_path: Path) -> None:
    (file, *_) = write_series(tmp_path, HEAD)
    header = pydicom.dcmread(file)
    header.SamplesPerPixel, header.PhotometricInterpretation = 3, "YBR_FULL_422"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PlanarConfiguration = 8, 8, 7, 0
    header.PixelData = bytes(24 * 28 * 2 - 40 * missing)
    header.save_as(file)
    (image,) = read_images([file], "scan")
    assert bool(image.damage) == bool(missing)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    step=st.floats(0.8, 3),
    slices=st.integers(20, 256),
    tilt=st.floats(-0.6, 0.6),
    start=st.floats(-200, 0),
    digits=st.integers(1, 6),
)
def test_positions_may_be_rounded(
    step: float, slices: int, tilt: float, start: float, digits: int
) -> None:
    normal = np.array([0, -np.sin(tilt), np.cos(tilt)])
    places = np.round((start + step * np.arange(slices))[:, None] * normal, digits)
    cosines = (1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt)))
    assert _find_step_problem(places, cosines) == ""
    if slices > 22:
        assert "missing" in _find_step_problem(np.delete(places, 9, axis=0), cosines)
        uneven = places + np.linspace(0, 0.2 * step * slices, slices)[:, None] ** 2 * normal
        assert _find_step_problem(uneven, cosines) != ""


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_rounded_positions_give_the_volume(angle: float, tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    fine = Volume(HEAD.data, turn @ make_head(spacing_mm=1.03).affine)
    for file in write_series(tmp_path, fine):
        place = pydicom.dcmread(file).ImagePositionPatient
        edit(file, ImagePositionPatient=[f"{float(value):.1f}" for value in place])
    read = read_scan(tmp_path).volume
    assert np.array_equal(read.data, fine.data)
    assert np.allclose(read.affine[:3, :3], fine.affine[:3, :3], atol=0.005)
    assert np.allclose(read.affine, fine.affine, atol=0.08)


def test_two_examinations_are_told_apart_without_their_dates(tmp_path: Path) -> None:
    later = Volume(HEAD.data[:, :, :-3] + 5, HEAD.affine)
    more = {"StudyInstanceUID": "1.2.3.0", "StudyDate": "20210101"}
    write_series(tmp_path / "a", later, **more)
    write_series(tmp_path / "b", HEAD)
    write_series(tmp_path / "c", HEAD, number=7, description="t2", **more)
    with pytest.raises(VolumeError) as caught:
        read_scan(tmp_path)
    told = str(caught.value)
    assert "26 slices of 28x24, first examination" in told
    assert "23 slices of 28x24, second examination" in told
    assert "--series first:3" in told and "2021" not in told and "2020" not in told
    for wanted in ("second:3", "second", "Second: mprage"):
        assert np.array_equal(read_scan(tmp_path, series=wanted).volume.data, later.data)
    assert np.array_equal(read_scan(tmp_path, series="first:3").volume.data, HEAD.data)
    with pytest.raises(VolumeError, match="no series fits --series first:7"):
        read_scan(tmp_path, series="first:7")
    assert {one.words.partition(":")[0] for one in scan_series(tmp_path, "scan")} == {
        "Series 3 (first examination)",
        "Series 3 (second examination)",
        "Series 7 (second examination)",
    }


def test_series_of_one_number_are_told_apart_by_their_time(tmp_path: Path) -> None:
    louder = Volume(HEAD.data + 5, HEAD.affine)
    write_series(tmp_path / "a", louder, SeriesTime="120000")
    write_series(tmp_path / "b", HEAD, SeriesTime="110000")
    with pytest.raises(VolumeError, match="first of its number"):
        read_scan(tmp_path)
    assert np.array_equal(read_scan(tmp_path, series="first:3").volume.data, HEAD.data)
    assert np.array_equal(read_scan(tmp_path, series="second:3").volume.data, louder.data)


@pytest.mark.parametrize("wanted", ["2", "1"])
def test_a_number_is_no_part_of_a_description(wanted: str, tmp_path: Path) -> None:
    write_series(tmp_path / "a", HEAD, number=3, description="t1_mprage")
    write_series(tmp_path / "b", HEAD, number=12, description="T2")
    with pytest.raises(VolumeError, match=f"no series fits --series {wanted}"):
        read_scan(tmp_path, "scan", series=wanted)
    assert "DICOM series 12" in read_scan(tmp_path, "scan", series="T2").note


@pytest.mark.parametrize(
    ("description", "fields", "told"),
    [
        ("t1_mprage", {}, "looks T1-weighted"),
        ("scan", {"EchoTime": 30.0}, "none says that it is"),
        ("t1_mprage_Gd", {}, "with contrast agent"),
        ("t1_mprage", {"ContrastBolusAgent": "Gadovist"}, "with contrast agent"),
    ],
)
def test_reason_and_contrast_agent_are_noted(
    description: str, fields: dict[str, Any], told: str, tmp_path: Path
) -> None:
    write_series(tmp_path, HEAD, description=description, **fields)
    scan = read_scan(tmp_path)
    assert told in scan.note and "Gadovist" not in scan.note
    assert ("contrast" in scan.note) == ("contrast" in told)
    assert "asked for" in read_scan(tmp_path, series="3").note


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        (("7", "DOE^JANE"), ("7", "DOE^JANE^^"), True),
        (("7", "DOE^JANE"), ("", "Doe^Jane^"), True),
        (("7", "DOE^JANE"), ("7", ""), True),
        (("", ""), ("", ""), True),
        (("7", "DOE^JANE"), ("8", "DOE^JANE"), False),
        (("7", "DOE^JANE"), ("7", "ROE^JANE"), False),
        (("7", ""), ("", "DOE^JANE"), False),
        (("7", "DOE^JANE"), ("", ""), False),
    ],
)
def test_patients_are_told_apart_by_what_is_there(
    first: tuple[str, str], second: tuple[str, str], one: bool, tmp_path: Path
) -> None:
    for number, (patient_id, name) in enumerate((first, second)):
        write_series(tmp_path / str(number), HEAD, PatientID=patient_id, PatientName=name)
    series = list_series(read_images(list_files(tmp_path, "scan"), "scan"))
    if one:
        check_one_patient(series, "scan")
    else:
        with pytest.raises(VolumeError, match="more than one patient"):
            check_one_patient(series, "scan")


@pytest.mark.parametrize(
    ("description", "fields", "weighting"),
    [
        ("ep2d_T1", {}, "other"),
        ("T1 EPI", {}, "other"),
        ("3D pCASL", {}, "other"),
        ("tra CASL", {}, "other"),
        ("REST_1", {}, "other"),
        ("T1_Map", {}, "other"),
        ("mp2rage_T1_Images", {}, "other"),
        ("scan", {"ImageType": ["DERIVED", "PRIMARY", "T1 MAP"]}, "other"),
        ("t1", {"ScanningSequence": "EP"}, "other"),
        ("t1_mprage", {}, "T1"),
        ("MP2RAGE_UNI", {}, "T1"),
        ("interesting", {}, "T1"),
        ("T2_part1", {}, "other"),
        ("FLAIR_set1", {}, "other"),
        ("rest1", {}, "other"),
        ("CAT12", {"InversionTime": 3000.0}, "unknown"),
        ("tfl_b1map", {}, "other"),
        ("T2 TFE", {}, "other"),
        ("t1rho", {}, "other"),
        ("t1_mip", {}, "other"),
        ("AXT1", {"EchoTime": 30.0}, "T1"),
        ("3DT1_TFE", {"EchoTime": 30.0}, "T1"),
        ("mprage", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "other"),
        ("mprage", {"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}, "other"),
        ("mprage", {"ComplexImageComponent": "PHASE"}, "other"),
        ("mprage", {"ComplexImageComponent": "MAGNITUDE"}, "T1"),
    ],
)
def test_what_is_no_t1_is_never_chosen(
    description: str, fields: dict[str, Any], weighting: str, tmp_path: Path
) -> None:
    file = write_series(tmp_path, HEAD, description=description, **fields)[0]
    (image,) = read_images([file], "scan")
    assert find_weighting(image) == weighting


@pytest.mark.parametrize(("echo", "weighting"), [(3.0, "T1"), (90.0, "other")])
def test_timing_of_enhanced_files_is_known(echo: float, weighting: str, tmp_path: Path) -> None:
    header = pydicom.dcmread(write_series(tmp_path, HEAD, description="scan")[0])
    for name in ("EchoTime", "RepetitionTime", "InversionTime"):
        delattr(header, name)
    shared, timing, echoes = Dataset(), Dataset(), Dataset()
    timing.RepetitionTime, echoes.EffectiveEchoTime = 9.0, echo
    shared.MRTimingAndRelatedParametersSequence, shared.MREchoSequence = [timing], [echoes]
    header.SharedFunctionalGroupsSequence = [shared]
    header.save_as(tmp_path / "enhanced")
    (image,) = read_images([tmp_path / "enhanced"], "scan")
    assert image.echo_ms == echo and find_weighting(image) == weighting


@pytest.mark.parametrize("name", ["dicom_dup_one", "dicom_no_preamble"])
def test_reproducers_are_read(name: str, data_root: Path) -> None:
    path = data_root / "strange_inputs" / f"{name}.zip"
    if not path.exists():
        pytest.skip("strange_inputs is not there")
    scan = read_scan(path)
    assert scan.volume.data.shape == (30, 120, 120)
    assert ("identical" in scan.note) == (name == "dicom_dup_one")


@pytest.mark.parametrize(
    "name",
    ["zip_with_xlsx.zip", "SC_ybr_full_422_uncompressed.dcm", "siemens_dwi_1000.dcm.gz"],
)
def test_reproducers_are_refused_as_no_t1(name: str, data_root: Path) -> None:
    path = data_root / "strange_inputs" / name
    if not path.exists():
        pytest.skip("strange_inputs is not there")
    with pytest.raises(VolumeError, match="no DICOM series can be used"):
        read_scan(path)
