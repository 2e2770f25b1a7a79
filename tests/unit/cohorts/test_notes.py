"""What a table leaves in doubt is asked about."""

from pathlib import Path

import pytest

from brainage.cohorts.cohort import load_cohort


def test_a_person_of_two_sexes_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    rows = "s1,1,40,a.nii,F\ns1,2,42,a.nii,M\ns2,1,40,a.nii,F\ns2,2,40,a.nii,\n"
    (tmp_path / "c.csv").write_text(f"subject_id,session,age,path,sex\n{rows}")
    (note,) = load_cohort(tmp_path / "c.csv").notes
    assert note.startswith("s1 has scans of both sexes")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("mmse > 24", "mmse 999"),
        ("cdr < 0.5", "cdr -9"),
        ("mmse > 24 and mmse < 31", ""),
        ("cdr == 0", ""),
        ("change < 0", ""),  # among negative numbers -9 is one
    ],
)
def test_codes_of_missing_values_that_a_filter_keeps_are_asked_about(
    where: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "a.nii").touch()
    rows = "s1,40,a.nii,30,0,-2\ns2,41,a.nii,999,1,-9\ns3,42,a.nii,20,-9,4\n"
    (tmp_path / "c.csv").write_text(f"id,age,path,mmse,cdr,change\n{rows}")
    notes = load_cohort(tmp_path / "c.csv", where=where).notes
    assert list(notes) == ([f"rows with {told} are kept: is that a missing one?"] if told else [])


@pytest.mark.parametrize(("later", "asked"), [("64", False), ("66", True), ("n/a", False)])
def test_scans_of_a_person_decades_apart_are_asked_about(
    later: str, asked: bool, tmp_path: Path
) -> None:
    (tmp_path / "a.nii").touch()
    rows = f"s1,1,40,a.nii\ns1,2,{later},a.nii\ns2,1,90,a.nii\n"
    (tmp_path / "c.csv").write_text(f"subject,session,age,path\n{rows}")
    notes = load_cohort(tmp_path / "c.csv", require_age=False).notes
    assert ["s1 has scans 26 years apart" in note for note in notes] == [True] * asked
