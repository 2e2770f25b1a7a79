"""Who is a case, and which scan of a person counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.tables import first_scans, read_joined, select_cases


def test_of_two_words_none_is_the_greater() -> None:
    table = pd.DataFrame({"dx": ["AD", "CN", "CN"]})
    with pytest.raises(CohortError, match="dx == 'AD'"):
        select_cases(table, "dx")
    assert select_cases(table, "dx == 'AD'").tolist() == [True, False, False]


@pytest.mark.parametrize("values", [[1, 2, 1], [False, True, False], [0.0, 0.5, 0.0]])
def test_the_greater_of_two_numbers_is_the_case_and_that_is_said(
    values: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("brainage.workflows.tables.say", said.append)
    cases = select_cases(pd.DataFrame({"group": values}), "group")
    assert np.array_equal(cases, [False, True, False])
    assert said == [f"cases: group {values[1]}; controls: group {values[0]}"]


def test_the_first_scan_of_one_age_is_that_of_the_lower_number() -> None:
    table = pd.DataFrame(
        {"scan_id": ["a_10", "a_9"], "subject_id": ["a", "a"], "age_years": [50.0, 50.0]}
    )
    with pytest.warns(UserWarning, match="1 repeated"):
        assert first_scans(table)["scan_id"].tolist() == ["a_9"]


def test_cases_by_a_blank_cell_and_texts_that_no_cell_has_are_said() -> None:
    table = pd.DataFrame({"dx": ["AD", np.nan, "CN"], "CDR": [1.0, np.nan, 0.0]})
    with pytest.warns(UserWarning, match=r"1 cases have no CDR: 'CDR != 0' holds for a blank"):
        assert select_cases(table, "CDR != 0").tolist() == [True, True, False]
    with pytest.warns(UserWarning, match=r"no cell of dx is 'mci'; it holds AD, CN\."):
        assert select_cases(table, "dx in ['AD', 'mci']").tolist() == [True, False, False]


@pytest.mark.parametrize("code", [-9, 999])
def test_codes_of_missing_values_are_neither_cases_nor_controls(code: int) -> None:
    table = pd.DataFrame({"CDR": [0, 0.5, 0, code], "my dx": ["AD", "CN", "CN", "CN"]})
    with pytest.raises(CohortError, match=f"CDR holds {code}"):
        select_cases(table, "my_dx == 'AD' or CDR > 0")
    assert select_cases(table, "my_dx == 'AD'").tolist() == [True, False, False, False]


def test_sexes_and_sites_of_two_tables_are_written_alike(tmp_path: Path) -> None:
    """A blank made site 1 of one table 1.0, and F and 2 were two sexes."""
    header = "scan_id,age_years,predicted_age_years,sex,site\n"
    (tmp_path / "p.csv").write_text(f"{header}a,50,52,1,1\nb,60,59,2,01\n")
    (tmp_path / "q.csv").write_text(f"{header}c,50,52,male,1\nd,60,59,f,\ne,60,59,x,\n")
    joined = read_joined([tmp_path / "p.csv", tmp_path / "q.csv"], None)
    assert joined["sex"].tolist() == ["M", "F", "M", "F", "x"]
    assert joined["site"].tolist() == ["1", "01", "1", "", ""]


@pytest.mark.parametrize(("told", "joined"), [(51, True), (80, False)])
def test_a_cohort_of_other_ages_is_not_joined(told: int, joined: bool, tmp_path: Path) -> None:
    """Scan ids such as sub-01 are those of many data sets."""
    for name in ("sub-01", "sub-02"):
        (tmp_path / f"{name}.nii").touch()
    header = "scan_id,age_years,predicted_age_years\n"
    (tmp_path / "p.csv").write_text(f"{header}sub-01,50.4,52\nsub-02,89,85\n")
    rows = f"id,age,MMSE,path\nsub-01,{told},29,sub-01.nii\nsub-02,95,30,sub-02.nii\n"
    (tmp_path / "c.csv").write_text(rows)
    options = CohortOptions(str(tmp_path / "c.csv"))
    if joined:
        assert read_joined(tmp_path / "p.csv", options)["MMSE"].tolist() == [29, 30]
    else:
        with pytest.raises(CohortError, match="another age in the cohort, first 'sub-01'"):
            read_joined(tmp_path / "p.csv", options)


def test_ids_of_two_tables_meet_in_one_form_of_their_letters(tmp_path: Path) -> None:
    header = "scan_id,subject_id,age_years,predicted_age_years\n"
    (tmp_path / "p.csv").write_text(f"{header}z\u0301,Zoe\u0308,50,52\nb,zoë,60,59\n")
    (tmp_path / "a.nii").touch()
    (tmp_path / "cohort.csv").write_text("scan_id,subject_id,age,path\nź,Zoë,50,a.nii\n")
    with pytest.warns(UserWarning, match="'Zoë' and 'zoë' count as another person each"):
        table = read_joined(tmp_path / "p.csv", CohortOptions(str(tmp_path / "cohort.csv")))
    assert table["scan_id"].tolist() == ["ź"]


def test_one_scan_by_two_names_in_two_tables_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "first.csv", tmp_path / "second.csv"]
    for path, visit in zip(paths, ("1", "2"), strict=True):
        header = "scan_id,subject_id,age_years,predicted_age_years"
        path.write_text(f"{header}\na{visit},a,6{visit},58.123\nb{visit},b,5{visit},5{visit}.456\n")
    with pytest.raises(CohortError, match="'a1' and 'a2'"):
        read_joined(paths, None)


def test_predictions_by_two_models_are_refused_and_unmarked_ones_are_not(tmp_path: Path) -> None:
    paths = [tmp_path / "first.csv", tmp_path / "second.csv", tmp_path / "out_of_fold.csv"]
    header = "scan_id,age_years,predicted_age_years"
    for number, path in enumerate(paths[:2]):
        path.write_text(f"{header},predicted_by\n{number},50,51.{number}23,weights {number}\n")
    paths[2].write_text(f"{header}\nx,50,60.123\n")
    assert len(read_joined([paths[0], paths[2]], None)) == 2
    with pytest.raises(CohortError, match="2 models: weights 0; weights 1"):
        read_joined(paths, None)
