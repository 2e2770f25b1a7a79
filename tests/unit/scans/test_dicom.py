"""DICOM in: the right series or a clear reason, and never a word of the patient."""

from pathlib import Path
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from brainage.errors import VolumeError
from brainage.scans.dicom import convert as dicom_convert
from brainage.scans.dicom.read import list_files, parse_age_string, read_images
from brainage.scans.dicom.series import list_series
from brainage.scans.open import read_scan, source_files
from brainage.types import Volume
from tests.dicom_helpers import SECRETS, make_head, pack_pixels, write_series, zip_files

HEAD = make_head()


def refusal(folder: Path, series: str | None = None) -> str:
    with pytest.raises(VolumeError) as caught:
        read_scan(folder, "scan", series=series)
    message = str(caught.value)
    assert message.startswith("scan: ") and "\n" not in message
    assert not any(secret in message for secret in SECRETS)
    return message


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_a_series_gives_the_volume_that_was_written(angle, tmp_path):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = Volume(HEAD.data, turn @ HEAD.affine)
    write_series(tmp_path, volume)
    read = read_scan(tmp_path).volume
    assert np.array_equal(read.data, volume.data)
    assert np.allclose(read.affine, volume.affine, atol=1e-3)


def test_a_zip_gives_the_same_volume_and_leaves_nothing_behind(tmp_path, monkeypatch):
    files = write_series(tmp_path / "in", HEAD)
    path = zip_files(tmp_path / "scan.zip", files)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert np.array_equal(read_scan(path).volume.data, HEAD.data)
    assert not list(scratch.iterdir())


def test_the_t1_is_chosen_among_series_and_the_choice_is_said(tmp_path):
    write_series(tmp_path / "x", HEAD, number=2, description="t2_space_sag")
    write_series(tmp_path / "y", HEAD, number=7, description="t1_mprage_iso")
    scout = Volume(HEAD.data[:, :, :5], HEAD.affine)
    write_series(tmp_path / "z", scout, number=1, description="t1_localizer")
    scan = read_scan(tmp_path)
    series = "DICOM series 7 't1_mprage_iso' (MR, 26 slices of 28x24), of 3 series"
    assert scan.note == f"{series}: the only one that looks T1-weighted"


def test_the_timing_tells_the_t1_where_the_description_does_not(tmp_path):
    write_series(tmp_path / "x", HEAD, number=2, description="scan a", EchoTime=90.0)
    write_series(tmp_path / "y", HEAD, number=4, description="scan b")
    assert "series 4" in read_scan(tmp_path).note


def test_several_t1_series_are_listed_and_one_is_asked_for(tmp_path):
    write_series(tmp_path / "x", HEAD, number=2, description="MPRAGE")
    louder = Volume(HEAD.data + 5, HEAD.affine)
    write_series(tmp_path / "y", louder, number=5, description="MPRAGE with contrast")
    message = refusal(tmp_path)
    assert "2 'MPRAGE'" in message and "5 'MPRAGE with contrast'" in message
    assert "--series" in message
    assert np.array_equal(read_scan(tmp_path, series="5").volume.data, louder.data)
    assert np.array_equal(read_scan(tmp_path, series="with contrast").volume.data, louder.data)
    assert "no series fits --series 9" in refusal(tmp_path, "9")
    assert "2 series fit" in refusal(tmp_path, "mprage")


def test_a_missing_slice_is_named(tmp_path):
    write_series(tmp_path, HEAD, skip=(11,))
    message = refusal(tmp_path)
    assert "1 slice is missing after slice 11 of 25 (12.00 mm instead of 6.00 mm)" in message


def test_a_localiser_in_three_directions_is_refused(tmp_path):
    turned = np.diag([6.0, 6.0, 6.0, 1.0])[[1, 2, 0, 3]]
    for number, affine in enumerate((HEAD.affine, turned, turned @ turned)):
        write_series(
            tmp_path / str(number),
            Volume(HEAD.data[:, :, :3], affine),
            description="three planes",
            SeriesInstanceUID="1.2.3",
        )
    assert "it is a localiser (9 slices in 3 directions)" in refusal(tmp_path)


def test_mixed_pixel_grids_are_refused(tmp_path):
    other = Volume(HEAD.data[:20], HEAD.affine)
    write_series(tmp_path / "a", HEAD, SeriesInstanceUID="1.2.3")
    write_series(tmp_path / "b", other, SeriesInstanceUID="1.2.3")
    assert "mixes geometries (1 directions, 2 pixel grids)" in refusal(tmp_path)


def test_slices_at_the_same_place_are_refused(tmp_path):
    for echo in ("1", "2"):
        write_series(tmp_path / echo, HEAD, SeriesInstanceUID="1.2.3", EchoTime=float(echo))
    assert "26 slices lie where another one does" in refusal(tmp_path)


def test_slices_stacked_aslant_are_refused(tmp_path):
    for number, file in enumerate(write_series(tmp_path, HEAD)):
        header = pydicom.dcmread(file)
        header.ImagePositionPatient[0] += 2.0 * number
        header.save_as(file)
    assert "aslant" in refusal(tmp_path)


def test_too_few_slices_are_refused(tmp_path):
    write_series(tmp_path, Volume(HEAD.data[:, :, :12], HEAD.affine))
    assert "it has 12 slices, at least 20 are needed" in refusal(tmp_path)


def test_ct_is_refused_also_when_it_is_asked_for(tmp_path):
    write_series(tmp_path, HEAD, Modality="CT")
    assert "it is CT, not MR" in refusal(tmp_path)
    assert "it is CT, not MR" in refusal(tmp_path, "3")


def test_t2_alone_is_refused_unless_it_is_asked_for(tmp_path):
    write_series(tmp_path, HEAD, description="t2_tse")
    assert "no series looks T1-weighted" in refusal(tmp_path)
    assert read_scan(tmp_path, series="3").volume.data.shape == HEAD.data.shape


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
def test_compressed_pixels_are_read_to_the_same_numbers(syntax, tmp_path):
    for file in write_series(tmp_path, HEAD):
        pack_pixels(file, syntax)
    assert np.array_equal(read_scan(tmp_path).volume.data, HEAD.data)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("lost", [8, 200])
def test_compressed_pixels_that_end_too_early_are_located(syntax, lost, tmp_path):
    files = write_series(tmp_path, HEAD)
    for file in files:
        pack_pixels(file, syntax)
    files[6].write_bytes(files[6].read_bytes()[:-lost])
    assert "slice 7 of 26 is damaged" in refusal(tmp_path)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, MPEG2MPML, "1.2.3"])
def test_pixels_that_cannot_be_decoded_are_refused(syntax, tmp_path):
    for file in write_series(tmp_path, HEAD):
        header = pydicom.dcmread(file)
        header.PixelData = encapsulate([header.PixelData])
        header["PixelData"].VR, header["PixelData"].is_undefined_length = "OB", True
        header.file_meta.TransferSyntaxUID = UID(syntax)
        header.save_as(file, implicit_vr=False, little_endian=True)
    assert "cannot be decoded" in refusal(tmp_path)


def test_two_patients_are_never_mixed(tmp_path):
    write_series(tmp_path / "a", HEAD)
    write_series(tmp_path / "b", HEAD, PatientID="ANOTHER", description="t2")
    assert "more than one patient" in refusal(tmp_path)


def test_a_folder_without_dicom_and_an_empty_one_are_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    assert "holds no DICOM image" in refusal(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VolumeError, match="the folder is empty"):
        source_files(tmp_path / "empty")


@pytest.mark.parametrize(
    ("kept", "told"),
    [(200, "DICOM file 4 is"), (900, "DICOM file 4 is"), (-300, "slice 4 of 26 is")],
)
def test_a_file_cut_short_is_located_without_its_name(kept, told, tmp_path):
    files = write_series(tmp_path, HEAD)
    files[3].write_bytes(files[3].read_bytes()[:kept])
    assert f"{told} damaged" in refusal(tmp_path)


def test_the_patient_is_cut_out_of_the_description(tmp_path):
    write_series(tmp_path, HEAD, description=f"MPRAGE {SECRETS[0].lower()} {SECRETS[2]}")
    assert "'MPRAGE *** ***'" in read_scan(tmp_path, "scan").note


def test_nothing_of_the_patient_is_in_what_is_read(tmp_path):
    write_series(tmp_path / "in", HEAD)
    images = read_images(list_files(tmp_path / "in", "scan"), "scan")
    shown = repr(list_series(images)).replace(str(tmp_path), "").replace(SECRETS[0] + "-", "")
    assert not any(secret in shown for secret in SECRETS)


def test_an_enhanced_file_with_all_slices_is_a_series(tmp_path):
    header = pydicom.dcmread(write_series(tmp_path / "in", HEAD)[0])
    frames = []
    for k in range(HEAD.data.shape[2]):
        frame, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = [0, 0, 6.0 * k]
        frame.PlanePositionSequence = [plane]
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    header.NumberOfFrames = len(frames)
    header.PixelData = header.PixelData * len(frames)
    del header.ImagePositionPatient
    header.save_as(tmp_path / "enhanced.dcm")
    (series,) = list_series(read_images([tmp_path / "enhanced.dcm"], "scan"))
    assert series.slices == 26 and not series.problem


def test_dcm2niix_that_fails_or_hangs_is_one_line(tmp_path, monkeypatch):
    write_series(tmp_path, HEAD)
    program = tmp_path.parent / "program"
    monkeypatch.setattr("dcm2niix.bin", str(program))
    program.write_text(f"#!/bin/sh\necho {SECRETS[0]}\nexit 3\n")
    program.chmod(0o755)
    assert "dcm2niix failed (3)" in refusal(tmp_path)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(dicom_convert, "TIMEOUT_S", 0.2)
    assert "did not end within 0.2 s" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45.0),
        ("018M", 1.5),
        ("007D", 7 / 365.25),
        ("", None),
        ("x", None),
        ("000Y", None),
        ("000D", None),
        ("999Y", None),
    ],
)
def test_dicom_age_strings(text, years):
    assert parse_age_string(text) == (years if years is None else pytest.approx(years))


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ([], "dcm2niix made 0 volumes of series"),
        ([26, 26], "dcm2niix made 2 volumes of series"),
        ([13], "dcm2niix made a volume of shape (24, 28, 13) of series"),
    ],
)
def test_what_dcm2niix_did_not_make_of_a_series_is_not_taken(
    slices: list[int], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(arguments: list[str], folder: Path, where: str) -> None:
        for number, count in enumerate(slices):
            image = nib.Nifti1Image(HEAD.data[:, :, :count], HEAD.affine)
            nib.save(image, folder / "out" / f"{number}.nii")

    write_series(tmp_path, HEAD)
    monkeypatch.setattr(dicom_convert, "_run", convert)
    assert message in refusal(tmp_path)


def test_a_file_system_without_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, HEAD)
    monkeypatch.setattr(Path, "symlink_to", Mock(side_effect=OSError(95, "not supported")))
    assert np.array_equal(read_scan(tmp_path).volume.data, HEAD.data)
    monkeypatch.setattr("shutil.copyfile", Mock(side_effect=OSError(28, "No space left on device")))
    assert "cannot be read (No space left on device)" in refusal(tmp_path)
