"""Scans given by path: names of their own, and the right row of a table of ages."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage.cohorts.people import add_people, list_files, name_files, read_people
from brainage.errors import CohortError

PART = st.sampled_from(["a", "b", "T1", "sub-01_T1w", "x.y", "sub-01_ses-2_run-1_T1w"])
ENDS = st.sampled_from([".nii", ".nii.gz", ".NII.GZ", ".mgz", ".dcm.gz", ".zip", "", ".hdr"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("in/sub-01/anat/sub-01_T1w.nii.gz", "sub-01"),
        ("sub-01_ses-2_acq-mprage_run-1_T1w.nii", "sub-01_ses-2_acq-mprage_run-1"),
        ("sub-01_ses-2_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz", "sub-01_ses-2"),
        ("IXI002-Guys-0828-T1.NII.GZ", "IXI002-Guys-0828-T1"),
        ("exam.2.zip", "exam.2"),
        ("dicom/", "dicom"),
        ("a.dcm.gz", "a"),
        (".nii", ".nii"),
    ],
)
def test_names_are_stems_or_bids_ids(path: str, name: str) -> None:
    assert name_files([path]) == [name]


def test_files_of_one_name_get_the_folders_that_tell_them_apart() -> None:
    paths = ["p/a/T1.mgz", "q/a/T1.mgz", "q/b/T1.mgz", "T2.mgz", "p/a/T1.nii"]
    assert name_files(paths) == ["T1.mgz", "a/T1", "b/T1", "T2", "T1.nii"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.lists(PART, max_size=3), PART, ENDS), min_size=1, unique_by=str))
def test_names_are_unique(files: list[tuple[list[str], str, str]]) -> None:
    paths = list(
        dict.fromkeys("/".join([*folders, f"{name}{end}"]) for folders, name, end in files)
    )
    names = name_files(paths)
    assert len(set(names)) == len(paths) and all(names)


def ages(tmp_path: Path, text: str, *paths: str, **options: object) -> list[float]:
    (tmp_path / "ages.tsv").write_text(text)
    people = read_people(tmp_path / "ages.tsv", **options)  # type: ignore[arg-type]
    table, _ = add_people(list_files(list(paths)), people, "ages.tsv")
    return table["age_years"].tolist()


BOTH = ("x/sub-01_ses-1_T1w.nii", "x/sub-01_ses-2_T1w.nii")


@pytest.mark.parametrize(
    ("text", "paths", "expected"),
    [
        ("participant_id,age\nsub-01,20\n02,30\n", ("sub-02_T1w.nii", "sub-01_T1w.nii"), [30, 20]),
        ("id;age\nT1;20,5\n", ("b/T1.mgz",), [20.5]),
        ("id,age\na,20\n", ("a.zip", "b.zip"), [20, math.nan]),
        ("subject,session,age\n01,1,20\n01,2,23\n", BOTH, [20, 23]),
        ("scan_id,age\nsub-01_ses-1,20\nsub-01_ses-2,23\n", BOTH, [20, 23]),
        ("scan_id,age\nsub-01_ses-1_T1w.nii,20\nsub-01_ses-2_T1w,23\n", BOTH, [20, 23]),
        ("participant_id,age\nsub-01,20\n", BOTH[1:], [20]),
        ("subject,session,age\n01,2,23\n01,1,20\n", ("sub-01_ses-2_run-1_T1w.nii",), [23]),
        ("id,age,path\nanna,20,b/T1.mgz\nbert,30,a/T1.mgz\n", ("a/T1.mgz", "b/T1.mgz"), [30, 20]),
    ],
)
def test_each_scan_gets_its_age(
    text: str, paths: tuple[str, ...], expected: list[float], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ages(tmp_path, text, *paths) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("participant_id,age\nsub-01,20\n", "fits none"),  # one age of a person, two sessions
        ("id,age\nz,20\n", "fits none"),
        ("participant_id,age\nsub-01_ses-1,20\nsub-01_ses-1,21\n", "2 rows for scan"),
        ("participant_id,age\nsub-01,old\n", "cannot be read"),
        ("participant_id,weight\nsub-01,70\n", "no column for age_years"),
    ],
)
def test_no_age_is_guessed(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=told):
        ages(tmp_path, text, *BOTH)


def test_units_and_codes_of_the_dictionary_beside_the_table_are_heeded(tmp_path: Path) -> None:
    (tmp_path / "ages.json").write_text(
        '{"age": {"Units": "months"}, "sex": {"Levels": {"1": "female", "2": "male"}}}'
    )
    (tmp_path / "ages.tsv").write_text("participant_id\tage\tsex\nsub-01\t60\t1\n")
    people = read_people(tmp_path / "ages.tsv")
    table, note = add_people(list_files(["sub-01_T1w.nii"]), people, "ages.tsv")
    assert table[["age_years", "sex"]].to_numpy().tolist() == [[5, "F"]] and note == ""
    assert people.attrs["notes"]


def test_named_column_is_the_age(tmp_path: Path) -> None:
    text = "id,age,scanned\na,20,21\n"
    assert ages(tmp_path, text, "a.nii", columns={"age": "scanned"}) == [21]


def test_scans_that_the_table_lacks_are_said(tmp_path: Path) -> None:
    (tmp_path / "ages.csv").write_text("id,age\na,20\n")
    files = list_files(["a.nii", "b.nii", "c.nii"])
    _, note = add_people(files, read_people(tmp_path / "ages.csv"), "ages.csv")
    assert note == "scans that are not in ages.csv get no age: b, c."
    assert isinstance(files, pd.DataFrame) and files["age_years"].isna().all()


def test_one_row_for_scans_of_one_name_is_asked_about(tmp_path: Path) -> None:
    """The sub-01 of two data sets are two people."""
    scans = list_files([str(tmp_path / name) for name in ("a/sub-01_T1w.nii", "b/sub-01_T1w.nii")])
    for text, is_asked in [("sub-01,20\n", True), ("a/sub-01,20\nb/sub-01,60\n", False)]:
        (tmp_path / "ages.csv").write_text(f"id,age\n{text}")
        _, note = add_people(scans, read_people(tmp_path / "ages.csv"), "ages.csv")
        assert ("one row: a/sub-01, b/sub-01" in note) == is_asked
