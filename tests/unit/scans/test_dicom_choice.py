"""Series offered to a reader: the best T1 first, in words that no file has written."""

from dataclasses import asdict

import numpy as np
import pytest

from brainage.errors import VolumeError
from brainage.scans.open import read_scan, scan_series
from brainage.types import Volume
from tests.dicom_helpers import SECRETS, make_head, write_series, zip_files

HEAD = make_head()
SCOUT = Volume(HEAD.data[:, :, :5], HEAD.affine)


def test_best_t1_is_first_and_unusable_series_are_last(tmp_path):
    write_series(tmp_path / "a", SCOUT, number=1, description="localizer")
    write_series(tmp_path / "b", HEAD, number=2, description="t2 flair", EchoTime=90.0)
    write_series(tmp_path / "c", HEAD, number=3, description="MPRAGE post Gd")
    write_series(tmp_path / "d", HEAD, number=4, description="MPRAGE", ImageType=["DERIVED"])
    write_series(tmp_path / "e", HEAD, number=5, description="MPRAGE")
    offered = scan_series(tmp_path, "scan")
    numbers = [choice.words.partition(":")[0] for choice in offered]
    assert numbers == [f"Series {n}" for n in (5, 4, 3, 2, 1)]
    assert [bool(choice.problem) for choice in offered] == [False] * 4 + [True]
    assert [choice.looks_t1 for choice in offered[:4]] == [True] * 3 + [False]
    assert offered[0].words == "Series 5: looks T1-weighted, 26 axial slices, 28 × 24 pixels"
    assert "with contrast agent" in offered[2].words


def test_finer_slices_are_better(tmp_path):
    write_series(tmp_path / "a", make_head(spacing_mm=6.0), number=1)
    write_series(tmp_path / "b", make_head(spacing_mm=4.0), number=2)
    assert scan_series(tmp_path, "scan")[0].words.startswith("Series 2")


def test_words_hold_no_text_of_the_file(tmp_path):
    files = write_series(tmp_path / "in", HEAD, description=f"{' '.join(SECRETS)} Dr Who")
    (offered,) = scan_series(zip_files(tmp_path / "scan.zip", files), "scan")
    shown = asdict(offered)
    shown.pop("uid")
    assert not any(text in str(shown) for text in (*SECRETS, "Who"))


def test_offered_series_is_the_one_that_is_read(tmp_path):
    louder = Volume(HEAD.data + 5, HEAD.affine)
    write_series(tmp_path / "a", HEAD, number=3)
    write_series(tmp_path / "b", louder, number=3)
    uids = [choice.uid for choice in scan_series(tmp_path, "scan")]
    read = [read_scan(tmp_path, series=uid).volume.data for uid in uids]
    assert {float(data.max()) for data in read} == {HEAD.data.max(), louder.data.max()}
    assert not np.array_equal(*read)


def test_series_of_two_patients_are_not_offered(tmp_path):
    write_series(tmp_path / "a", HEAD)
    write_series(tmp_path / "b", HEAD, PatientID="another")
    with pytest.raises(VolumeError, match="more than one patient"):
        scan_series(tmp_path, "scan")


def test_image_file_has_no_series(tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"words")
    assert scan_series(tmp_path / "scan.nii", "scan") == []


def test_age_and_sex_of_the_header_are_offered_and_no_other_text(tmp_path):
    write_series(tmp_path / "a", HEAD, age="071Y", PatientSex="F")
    (offered,) = scan_series(tmp_path, "scan")
    assert (offered.age_years, offered.sex) == (71.0, "F")
    assert "71" not in repr(offered).replace(offered.uid, "")


def test_sex_that_is_other_text_goes_no_further(tmp_path):
    write_series(tmp_path / "a", HEAD, age="", PatientSex="SMITH")
    (offered,) = scan_series(tmp_path, "scan")
    assert (offered.age_years, offered.sex) == (None, "")
