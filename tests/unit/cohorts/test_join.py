"""Several cohorts become one, with a site each and nobody in two of them."""

from pathlib import Path

import pytest

from brainage.cohorts.cohort import CohortReading, read_cohort
from brainage.cohorts.join import join_readings
from brainage.errors import CohortError


def read(folder: Path, text: str) -> CohortReading:
    folder.mkdir()
    for name in ("a.nii", "b.nii"):
        (folder / name).touch()
    (folder / "cohort.csv").write_text(text, encoding="utf-8")
    return read_cohort(folder / "cohort.csv", skip_bad=True)


def test_a_cohort_without_sites_gets_its_folders_name(tmp_path: Path) -> None:
    first = read(tmp_path / "oasis", "id,age,path,CDR\ns1,40,a.nii,0\ns2,no,b.nii,0\n")
    second = read(tmp_path / "ixi", "id,age,path,site\nt1,50,a.nii,HH\nt2,60,b.nii,\n")
    joined = join_readings([first, second])
    table = joined.cohort.table
    assert table["scan_id"].tolist() == ["s1", "t1", "t2"]
    assert table["site"].tolist() == ["oasis", "HH", "ixi"]
    assert table["CDR"].isna().tolist() == [False, True, True]
    assert (
        joined.rows_in == 4
        and joined.added == 2
        and [entry.scan_id for entry in joined.rejected] == ["s2"]
    )


def test_one_id_in_two_cohorts_is_refused(tmp_path: Path) -> None:
    first = read(tmp_path / "one", "id,age,path\ns1,40,a.nii\n")
    second = read(tmp_path / "two", "id,age,path\ns1,50,b.nii\n")
    with pytest.raises(CohortError, match=r"1 subject_ids are in two cohorts, the first is 's1'"):
        join_readings([first, second])


@pytest.mark.parametrize(("site", "asked"), [("1", True), ("2", False), ("", False)])
def test_a_site_of_two_cohorts_is_asked_about(site: str, asked: bool, tmp_path: Path) -> None:
    first = read(tmp_path / "one", "id,age,path,site\ns1,40,a.nii,1\n")
    second = read(tmp_path / "two", f"id,age,path,site\nt1,50,b.nii,{site}\n")
    assert any("sites 1 are in" in note for note in join_readings([first, second]).notes) == asked


def test_spellings_are_asked_about_across_cohorts_and_once(tmp_path: Path) -> None:
    first = read(tmp_path / "one", "id,age,path,site\ns1,40,a.nii,HH\ns2,40,b.nii,X\n")
    second = read(tmp_path / "two", "id,age,path,site\nS1,41,a.nii,hh\nt2,40,b.nii,Y\n")
    assert not first.notes and not second.notes
    person, site = join_readings([first, second]).notes
    assert "'S1' and 's1'" in person and "'HH' and 'hh'" in site
    third = read(tmp_path / "three", "id,age,path,site\nu1,41,a.nii,y\nu2,40,b.nii,Y\n")
    assert third.notes and not join_readings([first, third]).notes
