"""What a refusal says: where, which rule, what came."""

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
from tests.refusals import check_refusal

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


CASES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "missing": (lambda folder: folder / "no.nii", ("no file no",)),
    "name": (
        lambda folder: folder / "a\0.nii",
        ("cannot be opened",),
    ),
    "folder": (lambda folder: folder, ("folder",)),
    "pipe": (pipe, ("regular file",)),
    "empty": (file(lambda: b""), ("a.nii", AGAIN)),
    "huge": (
        sparse,
        ("a.nii", "1", str(MAX_FILE_BYTES), str(MAX_FILE_BYTES + 1)),
    ),
    "text": (
        file(lambda: b"age,sex\n" * 200),
        (
            "text",
            "DICOM",
        ),
    ),
    "dicom": (
        file(lambda: b"\0" * 128 + b"DICM" + b"\0" * 400),
        ("DICOM",),
    ),
    "series": (
        file(lambda: nifti((9, 10, 11, 2))),
        ("3-D", "(9, 10, 11, 2)"),
    ),
    "two axes": (
        file(lambda: changed(40, "h", 2)),
        ("3-D", "(9, 10)"),
    ),
    "thin": (
        file(lambda: nifti((9, 10, 7))),
        ("8", "1024", "(9, 10, 7)"),
    ),
    "long": (
        file(lambda: changed(42, "h", 1025)),
        ("8", "1024", "(1025, 10, 11)"),
    ),
    "many": (
        file(lambda: changed(40, "4h", 3, 1024, 1024, 129)),
        ("134217728", "135266304", "(1024, 1024, 129)", "1"),
    ),
    "complex": (
        file(lambda: nifti(dtype="c8")),
        ("complex64",),
    ),
    "unknown type": (
        file(lambda: changed(70, "h", 7)),
        ("code 7",),
    ),
    "offset": (
        file(lambda: changed(108, "f", 351.0)),
        ("(voxels said to start at byte 351)", CONVERT),
    ),
    "affine": (
        file(lambda: changed(280, "f", np.nan)),
        ("affine", "not finite"),
    ),
    "parallel": (
        file(lambda: changed(280, "4f", 2, 2, 0, 0, content=changed(296, "4f", 2, 2.01, 0, 0))),
        ("affine", "inverted"),
    ),
    "metres": (
        file(lambda: nifti(affine=0.002)),
        ("0.2", "10", "0.002 x 0.002 x 0.002"),
    ),
    "not finite": (
        file(lambda: changed(352, "f", np.inf)),
        ("1 of 990",),
    ),
    "constant": (file(flat), ("3", AGAIN)),
    "short": (
        file(lambda: nifti()[:-1]),
        ("4312", "4311", AGAIN),
    ),
    "short inside": (
        file(lambda: packed(nifti()[:-1]), "a.nii.gz"),
        ("3960", "3959", AGAIN),
    ),
    "declares too much": (
        file(lambda: packed(changed(42, "3h", 500, 500, 500)), "a.nii.gz"),
        ("500000352", "compressed bytes", AGAIN),
    ),
    "holds too much": (
        file(lambda: packed(nifti() + bytes(2**20 + 1)), "a.nii.gz"),
        ("3960", AGAIN),
    ),
    "holds too much, unpacked": (
        file(lambda: nifti() + bytes(2**20 + 100)),
        ("3960", AGAIN),
    ),
    "gzip": (
        file(lambda: packed(nifti())[:-8], "a.nii.gz"),
        ("stream is damaged", AGAIN),
    ),
    "half a pair": (
        file(lambda: changed(344, "4s", b"ni1\0"), "a.hdr"),
        ("a.img",),
    ),
    "header alone": (
        file(lambda: changed(344, "4s", b"ni1\0")),
        ("only a header",),
    ),
    "whole file as header": (
        single_file_pair,
        (".hdr", "Rename it to .nii"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_scans_refusal_says(name: str, tmp_path: Path) -> None:
    make, facts = CASES[name]
    with pytest.raises(VolumeError) as caught:
        load_volume(make(tmp_path), "sub-1")
    check_refusal(caught.value, "sub-1", *facts)


def test_without_a_name_the_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as caught:
        load_volume(tmp_path / "no.nii")
    check_refusal(caught.value, str(tmp_path / "no.nii"), "no file")


def cohort(subjects: str, sites: str = "") -> Cohort:
    """One scan for each letter; the same letter is the same person."""
    table = pd.DataFrame(index=range(len(subjects)), columns=STANDARD_COLUMNS).fillna("")
    table["scan_id"] = [f"scan{number}" for number in range(len(subjects))]
    table["subject_id"], table["site"] = list(subjects), list(sites or "x" * len(subjects))
    table["age_years"] = np.linspace(20, 80, len(subjects))
    return Cohort(table, "cohort.csv")


def split(train: list[int], validation: list[int], test: list[int]) -> Split:
    return Split(*(np.array(part, np.int64) for part in (train, validation, test)))


SPLITS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "too few": (
        lambda: make_split(cohort("ab"), SplitConfig(test_fraction=0.5, validation_fraction=0.4)),
        (
            "2",
            "1",
            "(0.5)",
            "(0.4)",
            "0",
            "3",
            "test_fraction",
            "0.2",
            "validation_fraction",
            "0.12",
        ),
    ),
    "one fold": (
        lambda: make_folds(cohort("abcdef"), 1, SplitConfig()),
        ("1", "6", "2", "--folds"),
    ),
    "many folds": (
        lambda: make_folds(cohort("abcdef"), 7, SplitConfig()),
        ("7", "6", "2", "--folds"),
    ),
    "at most ten are proposed": (
        lambda: make_folds(cohort("abcdefghijklmnop"), 1, SplitConfig()),
        ("1", "16", "2", "--folds", "10"),
    ),
    "nobody to train": (
        lambda: make_folds(cohort("abc"), 2, SplitConfig(validation_fraction=0.3)),
        ("3", "2", "(1 of 2 folds)", "1", "0", "--folds"),
    ),
    "no folds work": (
        lambda: make_folds(cohort("ab"), 2, SplitConfig()),
        ("2", "1", "(1 of 2 folds)", "0", "3"),
    ),
    "one site": (
        lambda: make_site_folds(cohort("abc"), SplitConfig()),
        ("'x'", "--column"),
    ),
    "a small rest": (
        lambda: make_site_folds(cohort("abcd", "xxxy"), SplitConfig()),
        ("site 'x'", "1", "2"),
    ),
    "twice in a part": (
        lambda: check_disjoint(cohort("abc"), split([0, 0], [1], [2])),
        ("the train part",),
    ),
    "outside": (
        lambda: check_disjoint(cohort("abc"), split([0], [1], [3])),
        ("outside the cohort",),
    ),
    "before": (
        lambda: check_disjoint(cohort("abc"), split([0], [-1], [2])),
        ("outside the cohort",),
    ),
    "in two parts": (
        lambda: check_disjoint(cohort("aba"), split([0], [1], [2])),
        ("'a'",),
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_splits_refusal_says(name: str) -> None:
    refused, facts = SPLITS[name]
    with pytest.raises(CohortError) as caught:
        refused()
    check_refusal(caught.value, "cohort.csv", *facts)


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
    check_refusal(caught.value, "sub-1", "w2 should be positive, but is -3.000000e+00", CONVERT)


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
        check_refusal(caught.value, "sub-1", "Input/output error")
