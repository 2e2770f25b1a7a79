import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage.cohorts.cells import parse_age
from brainage.cohorts.cohort import Cohort, CohortReading, read_cohort
from brainage.cohorts.filters import select_rows
from brainage.cohorts.table_files import read_table
from brainage.errors import CohortError, ShapeError


@pytest.fixture
def read(tmp_path: Path):
    """Write a table beside the scans a.nii, b.nii, c.nii and read it."""
    for name in "abc":
        (tmp_path / f"{name}.nii").touch()

    def _read(text: str | bytes, **options: object) -> CohortReading:
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_cohort(path, **options)

    return _read


def test_usual_names_are_found_and_paths_start_at_the_table(read, tmp_path: Path) -> None:
    table = read("Scan,Participant ID,Visit,Age at scan,Gender,Scanner,T1w,CDR\n"
                 "s1,p1,v1,45.5,female,GE,a.nii,0.5\n").cohort.table  # fmt: skip
    assert table.iloc[0].to_dict() == {
        "scan_id": "s1", "subject_id": "p1", "session_id": "v1", "age_years": 45.5, "sex": "F",
        "site": "GE", "path": str(tmp_path / "a.nii"), "CDR": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["subj", "subj_id", "person", "Person ID"])
def test_column_of_people_may_end_in_id(read, name: str) -> None:
    table = read(f"scan,{name},age,path\ns1,p1,45,a.nii\n").cohort.table
    assert table["subject_id"].tolist() == ["p1"]


def test_an_absolute_path_is_kept(read, tmp_path: Path) -> None:
    table = read(f"id,age,path\n1,30,{tmp_path}/b.nii\n").cohort.table
    assert table["path"].tolist() == [str(tmp_path / "b.nii")]


def test_excels_line_with_the_delimiter_is_no_header(read) -> None:
    reading = read("sep=;\r\nid;age;path\r\n1;45,3;a.nii\r\n")
    assert reading.cohort.table["age_years"].tolist() == [45.3]
    with pytest.raises(CohortError, match=r"line 3 \(1\): age 'old'"):
        read("sep=;\nid;age;path\n1;old;a.nii\n")


def test_zero_bytes_are_no_text(read) -> None:
    with pytest.raises(CohortError, match=r"not a table of text \(a zero byte at 13\)"):
        read("id,age,path\n1\0,30,a.nii\n")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_delimiters_and_byte_order_marks_are_understood(read, delimiter, mark) -> None:
    text = 'id,age,path,"a note"\n007,30,a.nii,"x"\n'.replace(",", delimiter)
    table = read(mark + text.encode()).cohort.table
    assert table.loc[0, ["scan_id", "subject_id", "a note"]].tolist() == ["007", "007", "x"]


def test_a_semicolon_table_may_have_decimal_commas(read) -> None:
    table = read("id;age;path;nWBV\n1;45,3;a.nii;0,803\n").cohort.table
    assert table.loc[0, ["age_years", "nWBV"]].tolist() == [45.3, 0.803]


@pytest.mark.parametrize("delimiter", ["\t", "|"])
@pytest.mark.parametrize(
    ("cell", "expected"), [("0,803", 0.803), ("12,5", 12.5), ("1,8031", 1.8031), ("1,803", "1,803")]
)
def test_comma_that_groups_no_thousands_is_a_decimal_mark(
    read, delimiter: str, cell: str, expected: object
) -> None:
    text = f"id;age;path;volume\n1;45,3;a.nii;{cell}\n".replace(";", delimiter)
    grouped = text.replace("45,3", "45") if isinstance(expected, str) else text
    assert read(grouped).cohort.table["volume"][0] == expected


def test_codes_with_leading_zeros_stay_text_in_other_columns(read) -> None:
    table = read("id,age,path,family\n1,30,a.nii,007\n2,31,b.nii,n/a\n").cohort.table
    assert table["family"][0] == "007" and pd.isna(table["family"][1])


def test_scan_ids_are_made_of_subject_and_session(read) -> None:
    table = read("subject,session,age,path\np,1,30,a.nii\np,2,31,b.nii\nq,,9,c.nii\n").cohort.table
    assert table["scan_id"].tolist() == ["p_1", "p_2", "q"]


def test_a_plain_id_names_the_subject_where_scans_have_a_column(read) -> None:
    table = read("id,image_id,age,path\np,i1,30,a.nii\np,i2,31,b.nii\n").cohort.table
    assert table["scan_id"].tolist() == ["i1", "i2"]
    assert table["subject_id"].tolist() == ["p", "p"]


def test_two_columns_for_the_same_thing_are_refused(read) -> None:
    with pytest.raises(CohortError, match=r"'Age' and 'AGE_AT_SCAN' .*--column age=Age"):
        read("id,Age,AGE_AT_SCAN,path\n1,30,31,a.nii\n")


@pytest.mark.parametrize("name", ["age", "age_years"])
def test_a_named_column_settles_it(read, name: str) -> None:
    reading = read("id,Age,AGE_AT_SCAN,path\n1,30,31,a.nii\n", columns={name: "AGE_AT_SCAN"})
    assert reading.cohort.table["age_years"].tolist() == [31.0]
    assert reading.cohort.table["Age"].tolist() == [30]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"age": "years"}, "no column 'years'. Its columns: id, age, path"),
        ({"height": "age"}, "unknown name 'height'"),
    ],
)
def test_a_wrong_column_option_is_refused(read, columns, message) -> None:
    with pytest.raises(CohortError, match=message):
        read("id,age,path\n1,30,a.nii\n", columns=columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,age\n1,30\n", "no column for path"),
        ("age,path\n30,a.nii\n", "no column for subject_id"),
        ("id,path\n1,a.nii\n", "no column for age_years .*--column age=ITS_NAME"),
        ("id,age,path\n", "has no rows"),
        ("", "has no rows"),
        ("id,id,path\n1,2,a.nii\n", "names 'id' more than once"),
        ("id,age,path\n1,45,3,a.nii\n", "line 2 has 4 cells, but the header has 3"),
        ("id,age,path\n1,30,é.nii\n".encode("latin-1"), "not UTF-8 text .*Latin-1"),
        (b"\x1f\x8b\x08\x00\xff", "not UTF-8 text"),
        (b"PK\x03\x04sheet", "is a spreadsheet.*CSV"),
    ],
)
def test_an_unusable_table_is_refused(read, text, message) -> None:
    with pytest.raises(CohortError, match=message):
        read(text)


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no such file or folder"):
        read_cohort(tmp_path / "gone.csv")


BAD = (
    "id,age,path,note\n"
    "good,30,a.nii,\n"
    "lost,30,x.nii,\n"
    "ageless,n/a,a.nii,\n"
    "\n"
    "old,121,a.nii,\n"
    "word,old,gone.nii,\n"
    ",30,a.nii,\n"
    "two,30,a.nii,\n"
    "two,31,a.nii,\n"
    "same,30,a.nii,\n"
    "same,30,a.nii,\n"
)


def test_every_bad_row_is_listed_at_once(read) -> None:
    with pytest.raises(CohortError) as caught:
        read(BAD)
    first, *clauses, hint = str(caught.value).splitlines()
    assert "session" in hint
    assert "8 of 10 rows cannot be used" in first and "--skip-bad" in first
    assert [clause.strip().split(": ", 1)[0] for clause in clauses] == [
        "line 3 (lost)", "line 4 (ageless)", "line 6 (old)", "line 7 (word)", "line 8 (no id)",
        "line 9 (two)", "line 10 (two)", "line 12 (same)",
    ]  # fmt: skip
    assert "age 'old' is not a number, no such file" in clauses[3]


def test_skipped_rows_go_to_the_ledger_with_unique_ids(read) -> None:
    reading = read(BAD, skip_bad=True)
    assert reading.cohort.table["scan_id"].tolist() == ["good", "same"]
    assert [entry.scan_id for entry in reading.rejected] == [
        "lost", "ageless", "old", "word", "#row8", "two#row9", "two#row10", "same#row12",
    ]  # fmt: skip
    assert {(entry.stage, entry.verdict) for entry in reading.rejected} == {("cohort", "failed")}
    assert reading.rows_in == len(reading.cohort) + len(reading.rejected) == 10


def test_a_long_list_of_bad_rows_is_cut(read) -> None:
    rows = "".join(f"{number},,a.nii\n" for number in range(50))
    with pytest.raises(CohortError) as caught:
        read("id,age,path\nx,30,a.nii\n" + rows)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[-1].strip() == "and 30 more"


def test_a_cohort_without_one_good_row_is_refused_even_when_skipping(read) -> None:
    with pytest.raises(CohortError, match="none of 1 rows can be used"):
        read("id,age,path\n1,30,gone.nii\n", skip_bad=True)


@pytest.mark.parametrize("text", ["id,path\n1,a.nii\n", "id,age,path\n1,n/a,a.nii\n"])
def test_ages_may_be_unknown_where_they_are_not_needed(read, text: str) -> None:
    assert math.isnan(read(text, require_age=False).cohort.table["age_years"][0])


def test_tables_that_a_spreadsheet_saves_as_unicode_text_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cohort.tsv"
    path.write_bytes("id\tage\tpath\n1\t30\té.nii\n".encode("utf-16"))
    assert read_table(path).frame["path"].tolist() == ["é.nii"]


@given(st.text())
def test_any_text_is_an_age_within_bounds_or_missing_or_refused(cell: str) -> None:
    try:
        age_years = parse_age(cell)
    except ValueError:
        return
    assert math.isnan(age_years) or 0 <= age_years <= 120


FILTERED = (
    "id,Age,sex,path,CDR,Site name,visit\n"
    "1,20,M,a.nii,,north,v1\n"
    "2,60,F,a.nii,0,south,v1\n"
    "3,89+,F,a.nii,0.5,,v1\n"
    "4,n/a,M,a.nii,1,north,v2\n"
)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("CDR != CDR or CDR == 0", "12"),
        ("CDR == CDR and CDR > 0", "34"),
        ("CDR == 0 | Age > 80", "23"),
        ("CDR == 0 & sex == 'F'", "2"),
        ("~(CDR == 0) and visit == 'v1'", "13"),
        ("not CDR == 0 and visit == 'v1'", "13"),
        ("20 <= Age < 89", "12"),
        ("CDR in [0, 0.5]", "23"),
        ("CDR not in (0, 0.5)", "14"),
        ("CDR in {-1, 0.5}", "3"),
        ("-CDR + 1 < 1 * 2 / 4 - 0.25", "4"),
        ("Site_name == 'north'", "14"),
        ("Site_name != 'north'", "23"),
        ("age_years >= 60 and subject_id in ['2', '4']", "2"),
        ("'F' == sex", "23"),
    ],
)
def test_filters_keep_the_right_rows(read, where: str, ids: str) -> None:
    reading = read(FILTERED, where=where, require_age=False)
    assert reading.cohort.table["scan_id"].tolist() == list(ids)


@pytest.mark.parametrize(
    ("name", "where"),
    [("31-0.0", "_31_0_0 > 1"), ("class", "_class > 1"), ("\u00b5 (x)", "\u00b5__x_ > 1")],
)
def test_every_column_can_be_named_in_a_filter(name: str, where: str) -> None:
    assert select_rows(pd.DataFrame({name: [1.0, 2.0]}), where).tolist() == [False, True]


def test_rows_that_a_filter_removes_are_neither_bad_nor_counted(read) -> None:
    reading = read(FILTERED, where="visit == 'v1'")
    assert (reading.rows_in, len(reading.cohort), reading.rejected) == (3, 3, [])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("cdr == 0", "no column 'cdr'. Known columns: id, Age, sex, path, CDR, Site_name, visit"),
        ("CDR == 7", "keeps none of 4 rows"),
        ("CDR == '0'", "text with numbers"),
        ("sex == 1", "text with numbers"),
        ("sex in [1, 'F']", "text with numbers"),
        ("CDR", "needs a comparison"),
        ("CDR and sex == 'F'", "needs a comparison"),
        ("sex * 1000000000 == 'F'", "needs numbers"),
        ("sex < 'M'", "not allowed"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(read, where: str, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        read(FILTERED, where=where)


HOSTILE = [
    "__import__('os').system('touch hacked')", "open('x')", "CDR.map(print)", "CDR.__class__ == 1",
    "CDR[0] == 1", "@CDR == 1", "@__builtins__ == 1", "`CDR` == 1", "__name__ == '__main__'",
    "lambda: 0", "(lambda: 0)() == 0", "[x for x in 'ab'] == 1", "f'{CDR}' == 'a'", "CDR := 1",
    "(x := 1) == 1", "CDR = 1", "import os", "CDR == 1; import os", "CDR == 1\nimport os",
    "9 ** 9 ** 9 == CDR", "CDR % 2 == 0", "1 << 99999999 == CDR", "'a' * 999999999 == sex",
    "CDR == 1 if sex == 'F' else CDR == 0", "b'a' == sex", "True", "None == CDR", "... == CDR",
    "CDR == {1: 2}", "CDR in 'abc'", "CDR in CDR", "CDR in []",
    "CDR in [Age]", "CDR in [1 + 2]", "CDR in [-CDR]", "1 == 1",
    "CDR in [open('x')]", "CDR is None",
    "*CDR == 1", "await CDR", "yield", "", "   ", "(", "'", "CDR ==", "\x00", "CDR == 1j",
    "not " * 400 + "CDR == 1", "-" * 1500 + "CDR == 1", "(" * 300 + "CDR" + ")" * 300 + " == 1",
    "1" * 1900 + " == CDR", "CDR == 0 or " * 500 + "CDR == 0",
]  # fmt: skip


@pytest.mark.parametrize("where", HOSTILE)
def test_code_is_never_run_by_a_filter(read, where: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CohortError):
        read(FILTERED, where=where)
    assert not Path("hacked").exists()


WORDS = [
    "CDR",
    "sex",
    "'F'",
    "0",
    "==",
    "<",
    "in",
    "and",
    "not",
    "lambda",
    "__x__",
    *"()[]-*&~,.:@",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_any_filter_works_or_is_refused_in_our_words(parts: list[str]) -> None:
    table = pd.DataFrame({"CDR": [0.0, math.nan], "sex": ["F", "M"]})
    try:
        mask = select_rows(table, " ".join(parts))
    except CohortError:
        return
    assert mask.shape == (2,) and mask.dtype == bool


def test_a_selection_keeps_rows_by_mask_or_position(read) -> None:
    cohort = read("id,age,path\n1,30,a.nii\n2,31,b.nii\n3,32,c.nii\n").cohort
    assert cohort.select([2, 0]).table["scan_id"].tolist() == ["3", "1"]
    assert cohort.select(cohort.table["age_years"] > 30).table["scan_id"].tolist() == ["2", "3"]
    assert len(cohort.select([])) == 0
    with pytest.raises(ShapeError, match="mask of 3 scans"):
        cohort.select(np.array([True]))


def test_the_hash_changes_with_ids_and_ages_but_not_with_order(read) -> None:
    cohort = read("id,age,path\n1,30,a.nii\n2,31,b.nii\n").cohort
    swapped = read("id,age,path\n2,31,b.nii\n1,30,a.nii\n").cohort
    assert cohort.content_hash() == swapped.content_hash()
    for text in ("id,age,path\n1,31,a.nii\n2,30,b.nii\n", "id,age,path\n1,30,a.nii\n"):
        assert read(text).cohort.content_hash() != cohort.content_hash()


def test_a_cohort_checks_its_table(read) -> None:
    table = read("id,age,path\n1,30,a.nii\n").cohort.table
    with pytest.raises(CohortError, match="lacks columns site, path"):
        Cohort(table.drop(columns=["site", "path"]), "here")
    with pytest.raises(CohortError, match="'1' comes twice"):
        Cohort(pd.concat([table, table]), "here")


def test_a_hundred_thousand_rows_are_read(read) -> None:
    rows = "".join(f"s{n},p{n // 2},{n % 80 + 18},F,a.nii,0\n" for n in range(100_000))
    reading = read("scan,subject,age,sex,path,CDR\n" + rows, where="CDR == 0")
    assert len(reading.cohort) == 100_000


def test_oasis_is_read(data_root: Path) -> None:
    reading = read_cohort(data_root / "oasis1" / "cohort.csv", where="CDR != CDR or CDR == 0")
    table = reading.cohort.table
    assert table["scan_id"][0] == "OAS1_0004_MR1" and table["subject_id"][0] == "OAS1_0004"
    assert table["age_years"].between(18, 96).all() and not (table["CDR"] > 0).any()
    assert reading.rejected == [] and reading.rows_in == len(table) > 200


def test_a_name_that_could_be_two_columns_is_refused(read) -> None:
    table = "id,CDR-SB,CDR_SB,path\na,0,1,cohort.csv\nb,1,0,cohort.csv\n"
    with pytest.raises(CohortError, match="'CDR-SB' or 'CDR_SB'"):
        read(table, where="CDR_SB == 0", require_age=False)


def test_ids_that_look_the_same_are_one_persons_and_letter_case_is_asked_about(read) -> None:
    """A macOS folder writes é as e + ´; by case, one person would train and be tested."""
    same = "subject_id,session,age,path\nRené,1,40,a.nii\nRene\u0301,2,42,b.nii\n"
    assert read(same).cohort.table["subject_id"].nunique() == 1
    with pytest.warns(UserWarning, match="'S1' and 's1' count as another person each"):
        reading = read("subject_id,session,age,path\ns1,1,40,a.nii\nS1,2,42,b.nii\n")
    assert reading.cohort.table["subject_id"].tolist() == ["s1", "S1"]
