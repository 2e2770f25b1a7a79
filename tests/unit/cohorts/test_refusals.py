"""What a refusal says, word for word: where, which rule, what came, what to do."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.cohort import STANDARD_COLUMNS, Cohort
from brainage.cohorts.splits import Split, check_disjoint, make_folds, make_site_folds, make_split
from brainage.config import SplitConfig
from brainage.errors import CohortError, VolumeError
from brainage.scans.volume import MAX_FILE_BYTES, load_volume

AGAIN = "Copy or convert the scan again from its source."
CONVERT = "Convert the scan again from its source."
SHAPE = (9, 10, 11)


def nifti(shape: tuple[int, ...] = SHAPE, dtype: object = "f4", affine: float = 2.0) -> bytearray:
    data = (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
    return bytearray(nib.Nifti1Image(data, np.diag([affine, affine, affine, 1.0])).to_bytes())


def changed(place: int, form: str, *values: float, content: bytearray | None = None) -> bytearray:
    content = nifti() if content is None else content
    struct.pack_into(f"<{form}", content, place, *values)
    return content


def file(content: Callable[[], bytes], name: str = "a.nii") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return make


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.nii")
    return folder / "a.nii"


def sparse(folder: Path) -> Path:
    (folder / "a.nii").touch()
    os.truncate(folder / "a.nii", MAX_FILE_BYTES + 1)
    return folder / "a.nii"


def single_file_pair(folder: Path) -> Path:
    (folder / "a.hdr").write_bytes(nifti())
    (folder / "a.img").write_bytes(b"\0" * 100)
    return folder / "a.img"


def flat() -> bytearray:
    data = nifti()
    data[352:] = np.full(990, 3, "<f4").tobytes()
    return data


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "no.nii", "there is no file no.nii. Check the path."),
    "name": (
        lambda folder: folder / "a\0.nii",
        "cannot be opened (embedded null byte). Check the path.",
    ),
    "folder": (lambda folder: folder, "is a folder, not a scan. Give one image file."),
    "pipe": (pipe, "is not a regular file. Give one image file."),
    "empty": (file(lambda: b""), f"the file a.nii is empty. {AGAIN}"),
    "huge": (
        sparse,
        f"expected at most {MAX_FILE_BYTES} bytes, got {MAX_FILE_BYTES + 1} in a.nii. "
        "Give a single T1 volume.",
    ),
    "text": (
        file(lambda: b"age,sex\n" * 200),
        "is not a scan that can be read here; it starts with b'age,sex\\n'. "
        "Give a NIfTI, Analyze or MGH/MGZ file.",
    ),
    "dicom": (
        file(lambda: b"\0" * 128 + b"DICM" + b"\0" * 400),
        "is a DICOM file, not a volume. Give a NIfTI, Analyze or MGH/MGZ file.",
    ),
    "series": (
        file(lambda: nifti((9, 10, 11, 2))),
        "expected a 3-D volume, got shape (9, 10, 11, 2). Extract one volume first.",
    ),
    "two axes": (
        file(lambda: changed(40, "h", 2)),
        "expected a 3-D volume, got shape (9, 10). Give a whole scan.",
    ),
    "thin": (
        file(lambda: nifti((9, 10, 7))),
        "expected 8 to 1024 voxels along each axis, got shape (9, 10, 7). Give a whole scan.",
    ),
    "long": (
        file(lambda: changed(42, "h", 1025)),
        "expected 8 to 1024 voxels along each axis, got shape (1025, 10, 11). Give a whole scan.",
    ),
    "many": (
        file(lambda: changed(40, "4h", 3, 1024, 1024, 129)),
        "expected at most 134217728 voxels, got 135266304 with shape (1024, 1024, 129). "
        "Resample it to 1 mm first.",
    ),
    "complex": (
        file(lambda: nifti(dtype="c8")),
        "expected one real number a voxel, got data type complex64. "
        "Convert it to a real-valued image first.",
    ),
    "unknown type": (
        file(lambda: changed(70, "h", 7)),
        "expected one real number a voxel, got data type code 7. "
        "Convert it to a real-valued image first.",
    ),
    "offset": (
        file(lambda: changed(108, "f", 351.0)),
        f"the header is damaged (voxels said to start at byte 351). {CONVERT}",
    ),
    "affine": (
        file(lambda: changed(280, "f", np.nan)),
        "the affine is not finite. Convert the scan again, keeping its orientation.",
    ),
    "parallel": (
        file(lambda: changed(280, "4f", 2, 2, 0, 0, content=changed(296, "4f", 2, 2.01, 0, 0))),
        "the affine cannot be inverted. Convert the scan again, keeping its orientation.",
    ),
    "metres": (
        file(lambda: nifti(affine=0.002)),
        "expected voxels of 0.2 to 10 mm, got 0.002 x 0.002 x 0.002 mm. "
        "Check the unit of the header's spacing.",
    ),
    "not finite": (
        file(lambda: changed(352, "f", np.inf)),
        "1 of 990 voxels are not finite numbers. "
        "Replace NaN and infinity, or convert the scan again.",
    ),
    "constant": (file(flat), f"every voxel is 3: the image is empty. {AGAIN}"),
    "short": (
        file(lambda: nifti()[:-1]),
        f"the header declares 4312 bytes of data, the file has 4311 bytes. {AGAIN}",
    ),
    "short inside": (
        file(lambda: packed(nifti()[:-1]), "a.nii.gz"),
        f"expected 3960 bytes of voxels, the file ends after 3959. {AGAIN}",
    ),
    "declares too much": (
        file(lambda: packed(changed(42, "3h", 500, 500, 500)), "a.nii.gz"),
        f"the header declares 500000352 bytes of data, the file has SIZE compressed bytes. {AGAIN}",
    ),
    "holds too much": (
        file(lambda: packed(nifti() + bytes(2**20 + 1)), "a.nii.gz"),
        f"the file holds far more than the 3960 bytes its header declares. {AGAIN}",
    ),
    "holds too much, unpacked": (
        file(lambda: nifti() + bytes(2**20 + 100)),
        f"the file holds far more than the 3960 bytes its header declares. {AGAIN}",
    ),
    "gzip": (
        file(lambda: packed(nifti())[:-8], "a.nii.gz"),
        "the gzip stream is damaged (Compressed file ended before the end-of-stream marker was "
        f"reached). {AGAIN}",
    ),
    "half a pair": (
        file(lambda: changed(344, "4s", b"ni1\0"), "a.hdr"),
        "there is no file a.img. Check the path.",
    ),
    "header alone": (
        file(lambda: changed(344, "4s", b"ni1\0")),
        "holds only a header; expected the voxels of an .img file beside it. "
        "Give the .hdr/.img pair under these names.",
    ),
    "whole file as header": (
        single_file_pair,
        "the .hdr file holds voxels itself; expected a header beside an .img file. "
        "Rename it to .nii.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_scans_refusal_says(name: str, tmp_path: Path) -> None:
    make, expected = CASES[name]
    path = make(tmp_path)
    with pytest.raises(VolumeError) as caught:
        load_volume(path, "sub-1")
    size = str(path.stat().st_size) if "SIZE" in expected else ""
    assert str(caught.value) == f"sub-1: {expected.replace('SIZE', size)}"


def test_without_a_name_the_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as caught:
        load_volume(tmp_path / "no.nii")
    assert str(caught.value) == f"{tmp_path}/no.nii: there is no file no.nii. Check the path."


def cohort(subjects: str, sites: str = "") -> Cohort:
    """One scan for each letter; the same letter is the same person."""
    table = pd.DataFrame(index=range(len(subjects)), columns=STANDARD_COLUMNS).fillna("")
    table["scan_id"] = [f"scan{number}" for number in range(len(subjects))]
    table["subject_id"], table["site"] = list(subjects), list(sites or "x" * len(subjects))
    table["age_years"] = np.linspace(20, 80, len(subjects))
    return Cohort(table, "cohort.csv")


def split(train: list[int], validation: list[int], test: list[int]) -> Split:
    return Split(*(np.array(part, np.int64) for part in (train, validation, test)))


SPLITS: dict[str, tuple[Callable[[], object], str]] = {
    "too few": (
        lambda: make_split(cohort("ab"), SplitConfig(test_fraction=0.5, validation_fraction=0.4)),
        "2 subjects - 1 for test (0.5) - 1 for validation (0.4) leave 0 to train. "
        "At least 3 subjects, test_fraction 0.2 and validation_fraction 0.12 work.",
    ),
    "one fold": (
        lambda: make_folds(cohort("abcdef"), 1, SplitConfig()),
        "1 folds of 6 subjects, expected 2 to 6. --folds 6 works.",
    ),
    "many folds": (
        lambda: make_folds(cohort("abcdef"), 7, SplitConfig()),
        "7 folds of 6 subjects, expected 2 to 6. --folds 6 works.",
    ),
    "at most ten are proposed": (
        lambda: make_folds(cohort("abcdefghijklmnop"), 1, SplitConfig()),
        "1 folds of 16 subjects, expected 2 to 16. --folds 10 works.",
    ),
    "nobody to train": (
        lambda: make_folds(cohort("abc"), 2, SplitConfig(validation_fraction=0.3)),
        "3 subjects - 2 for test (1 of 2 folds) - 1 for validation leave 0 to train. "
        "--folds 3 works.",
    ),
    "no folds work": (
        lambda: make_folds(cohort("ab"), 2, SplitConfig()),
        "2 subjects - 1 for test (1 of 2 folds) - 1 for validation leave 0 to train. "
        "At least 3 subjects are needed.",
    ),
    "one site": (
        lambda: make_site_folds(cohort("abc"), SplitConfig()),
        "to leave a site out, every scan needs one, of two or more; got ['x']. "
        "Name the column: --column site=SCANNER.",
    ),
    "a small rest": (
        lambda: make_site_folds(cohort("abcd", "xxxy"), SplitConfig()),
        "without site 'x', 1 subjects are left to train on. At least 2 are needed.",
    ),
    "twice in a part": (
        lambda: check_disjoint(cohort("abc"), split([0, 0], [1], [2])),
        "a scan comes twice in the train part.",
    ),
    "outside": (
        lambda: check_disjoint(cohort("abc"), split([0], [1], [3])),
        "the test part has scans outside the cohort.",
    ),
    "before": (
        lambda: check_disjoint(cohort("abc"), split([0], [-1], [2])),
        "the validation part has scans outside the cohort.",
    ),
    "in two parts": (
        lambda: check_disjoint(cohort("aba"), split([0], [1], [2])),
        "subject 'a' is in the train and the test part. Split by subject.",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_splits_refusal_says(name: str) -> None:
    refused, expected = SPLITS[name]
    with pytest.raises(CohortError) as caught:
        refused()
    assert str(caught.value) == f"cohort.csv: {expected}"


def test_the_smallest_cohorts_that_can_be_split_are() -> None:
    assert len(make_split(cohort("abc"), SplitConfig()).train) == 1
    assert len(make_folds(cohort("abc"), 3, SplitConfig())) == 3
    assert len(make_site_folds(cohort("abcd", "xxyy"), SplitConfig())) == 2


def test_what_nibabel_says_of_a_damaged_header_is_passed_on_with_the_scans_name(
    tmp_path: Path,
) -> None:
    content = changed(252, "2h3f", 1, 0, 2.0, 0.0, 0.0)  # qform alone, no unit quaternion
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(VolumeError) as caught:
        load_volume(tmp_path / "a.nii", "sub-1")
    # nibabel raises what quotes its own message.
    assert str(caught.value) == (
        f"sub-1: the header is damaged ('w2 should be positive, but is -3.000000e+00'). {CONVERT}"
    )


def test_leaving_sites_out_follows_the_seed() -> None:
    people = cohort("abcdefghijklmnop", "xy" * 8)

    def drawn(seed: int) -> list[list[int]]:
        return [s.validation.tolist() for s in make_site_folds(people, SplitConfig(seed=seed))]

    assert drawn(1) == drawn(1) and any(drawn(1) != drawn(seed) for seed in range(2, 6))


def test_an_intercept_of_one_is_added(tmp_path: Path) -> None:
    plain, lifted = nifti(dtype="i2"), changed(112, "2f", 1.0, 1.0, content=nifti(dtype="i2"))
    (tmp_path / "a.nii").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(lifted)
    difference = load_volume(tmp_path / "b.nii").data - load_volume(tmp_path / "a.nii").data
    assert (difference == 1).all()


def test_what_the_system_says_of_a_failing_disk_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.nii").write_bytes(nifti())
    for error in (OSError(5, "Input/output error"), OSError("Input/output error")):
        monkeypatch.setattr(Path, "open", Mock(side_effect=error))
        with pytest.raises(VolumeError) as caught:
            load_volume(tmp_path / "a.nii", "sub-1")
        assert str(caught.value) == "sub-1: cannot be read (Input/output error)."
