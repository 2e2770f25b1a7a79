"""What the cells of strangers' tables mean: ages, sexes, numbers, paths."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainage.cohorts.cells import (
    find_path,
    parse_age,
    parse_number,
    parse_sexes,
    unit_of_name,
)
from brainage.cohorts.cohort import CohortReading, load_cohort, read_cohort
from brainage.errors import CohortError

STRANGE = Path("/work/shared/data/strange_inputs")


@pytest.fixture
def read(tmp_path: Path):
    """Write a table beside the scans a.nii, b.nii, c.nii and read it."""
    for name in "abc":
        (tmp_path / f"{name}.nii").touch()

    def _read(text: str, **options: object) -> CohortReading:
        (tmp_path / "table.csv").write_text(text)
        return load_cohort(tmp_path / "table.csv", **options)

    return _read


@given(
    st.integers(1, 119),
    st.sampled_from(["{}", "{}.0", "{},0", "{}y", "{} years", "{}Y", "{}+", ">{}", "> {}", "{}e0"]),
)
def test_every_way_to_write_an_age_gives_its_years(years: int, form: str) -> None:
    assert parse_age(form.format(years)) == years


@given(
    st.integers(1, 1400), st.sampled_from([("months", 12), ("weeks", 52.1786), ("days", 365.25)])
)
def test_an_age_with_a_unit_is_never_read_as_years(count: int, unit: tuple[str, float]) -> None:
    assert parse_age(f"{count} {unit[0]}") == pytest.approx(count / unit[1], rel=1e-4)


@pytest.mark.parametrize(
    ("cell", "age"),
    [("0", 0), ("45,3", 45.3), (" 120 ", 120), ("89+", 89), ("045Y", 45), ("018M", 1.5),
     ("4.75e+01", 47.5), ("47y", 47), (">89", 89)],
)  # fmt: skip
def test_ages_are_read(cell: str, age: float) -> None:
    assert parse_age(cell) == age


@pytest.mark.parametrize(
    "cell", ["-1", "120.1", "inf", "1e9", "45x", "47m", "45-50", "1,234.5", "4_5", "60 fortnights"]
)
def test_impossible_ages_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="age"):
        parse_age(cell)


@pytest.mark.parametrize("cell", ["12,345 days", "12.345 days", "1,024 months", "2,345 weeks"])
def test_ages_that_could_be_thousands_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="could be thousands"):
        parse_age(cell)


def test_three_decimals_of_an_age_are_no_thousands() -> None:
    ages = ("45,312", "1.024", "540,123 months", "2.571 weeks", "16436.250 days")
    assert [round(parse_age(age), 3) for age in ages] == [45.312, 1.024, 45.01, 0.049, 45.0]


@pytest.mark.parametrize(
    ("ages", "numbers", "held"),
    [
        (("45,5", "60,1"), ("987,5", "1.234"), ["987,5", "1.234"]),  # 1234 beside 987.5
        (("45.5", "60.1"), ("987", "1,234"), ["987", "1,234"]),
        (("45", "60"), ("0.987", "1.234"), [0.987, 1.234]),
        (("45", "60"), ("0,987", "1,234"), [0.987, 1.234]),
        (("45", "60"), ("2,345", "1,234"), [2.345, 1.234]),  # as is usual beside ;
        (("45,5", "60"), ("0.987", "1.234"), [0.987, 1.234]),
    ],
)
def test_numbers_with_grouped_thousands_stay_text(read, ages, numbers, held) -> None:
    rows = zip("ab", ages, numbers, strict=True)
    lines = [f"{name};{age};{number};{name}.nii" for name, age, number in rows]
    table = read("\n".join(["id;age;volume;path", *lines])).cohort.table
    assert table["volume"].tolist() == held


def test_many_ages_above_120_are_asked_about(read) -> None:
    """Of ages in months --skip-bad keeps those below 120, as years."""
    rows = "a,60,a.nii\nb,{},b.nii\nc,{},c.nii\nd,{},c.nii\n"
    asked = read(f"id,age,path\n{rows.format(121, 140, 216)}", skip_bad=True)
    assert "if it is in months or days" in asked.notes[0]
    assert read(f"id,age,path\n{rows.format(999, 999, 1970)}", skip_bad=True).notes == ()


def test_numbers_may_have_decimal_commas() -> None:
    assert [parse_number(cell) for cell in ("4,75e+01", "-3", ",5")] == [47.5, -3, 0.5]
    assert math.isnan(parse_number("n/a"))
    with pytest.raises(ValueError, match="not a number"):
        parse_number("1.234,5")


SEXES = [
    (["M", "f", "Female", "male", "W", ""], "sex", ["M", "F", "F", "M", "F", ""]),
    (["1", "2", "1.0", "2.0", "0", "9"], "sex", ["M", "F", "M", "F", "", ""]),
    (["0", "1"], "sex (0=m, 1=f)", ["M", "F"]),
    (["1", "0"], "SEX (1=F; 0=M)", ["F", "M"]),
    (["1", "2"], "SEX_ID (1=f, 2=m)", ["F", "M"]),
    (["1", "2"], "sex (F=1, M=2)", ["F", "M"]),
    (["1", "0"], "sex (M=1:F=0)", ["M", "F"]),
    (["1", "2", "9"], "sex (1=f, 2=m, 9=unknown)", ["F", "M", ""]),
]


@pytest.mark.parametrize(("cells", "name", "sexes"), SEXES)
def test_sexes_that_are_told_are_read(cells: list[str], name: str, sexes: list[str]) -> None:
    assert parse_sexes(cells, name) == (sexes, "")


@given(st.lists(st.sampled_from(["0", "1", "0.0", "1.0", ""]), min_size=1))
def test_zeros_and_ones_alone_never_become_a_sex(cells: list[str]) -> None:
    sexes, note = parse_sexes(cells, "sex")
    assert set(sexes) == {""} and bool(note) == any(cells)


def test_a_dictionary_that_is_not_understood_leaves_the_sex_unknown() -> None:
    sexes, note = parse_sexes(["1", "2"], "sex", {"1": "femme", "2": "homme"})
    assert sexes == ["", ""] and "'sex'" in note
    assert parse_sexes(["1", "2"], "sex", {"1": "Female", "2": "male"})[0] == ["F", "M"]


@pytest.mark.parametrize("name", ["sex_1f_2m", "sex (F1/M2)", "sex: 1 woman, 2 man"])
def test_a_header_that_is_not_understood_leaves_the_sex_unknown(name: str) -> None:
    sexes, note = parse_sexes(["1", "2"], name)
    assert sexes == ["", ""] and name in note


def test_an_unknown_sex_is_said_to_a_python_caller(read, tmp_path: Path) -> None:
    read("id,age,sex,path\n1,30,0,a.nii\n2,31,1,b.nii\n")
    with pytest.warns(UserWarning, match="'sex' holds 0, 1"):
        table = read_cohort(tmp_path / "table.csv").cohort.table
    assert table["sex"].tolist() == ["", ""]


def test_a_header_that_explains_its_codes_is_found_as_the_sex(read) -> None:
    reading = read('id,age,"sex (0=m, 1=f)",path\n1,30,0,a.nii\n2,31,1,b.nii\n')
    assert reading.cohort.table["sex"].tolist() == ["M", "F"] and reading.notes == ()


def test_a_zero_among_adults_is_missing_until_told_otherwise(read) -> None:
    text = "id,age,path\n1,0,a.nii\n2,31,b.nii\n"
    with pytest.raises(CohortError, match="has no age"):
        read(text)
    reading = read(text, require_age=False)
    assert math.isnan(reading.cohort.table["age_years"][0]) and "--column" in reading.notes[0]
    assert read(text, columns={"age": "age"}).cohort.table["age_years"].tolist() == [0, 31]
    assert read(text.replace("31", "2")).cohort.table["age_years"].tolist() == [0, 2]


def test_several_ages_of_99_alone_are_asked_about(read) -> None:
    rows = "id,age,path\n1,99,a.nii\n2,{},b.nii\n3,99,c.nii\n"
    assert "2 ages are 99" in read(rows.format(31)).notes[0]
    assert read(rows.format(97)).notes == ()


@pytest.mark.parametrize("name", ["age_months", "AgeMonths", "age (months)", "age in months"])
def test_a_column_of_months_is_read_as_months(read, name: str) -> None:
    reading = read(f"id,{name},path\n1,60,a.nii\n", columns={"age": name})
    assert reading.cohort.table["age_years"].tolist() == [5] and "months" in reading.notes[0]


@given(
    st.sampled_from(["months", "Months", "MONTHS", "days", "weeks", "mo"]),
    st.sampled_from(["age_{}", "age in {}", "Age {}_v2", "t1_age_{}", "age_t1_{}", "{}_of_age_2"]),
)
def test_a_unit_is_found_in_a_name_with_numbers(unit: str, form: str) -> None:
    assert unit_of_name(form.format(unit)) == unit.lower()


def test_a_unit_is_found_in_names_without_gaps_and_visits_are_none() -> None:
    for name in ("ageMonths", "agemonths", "AGEINMONTHS", "AgeMonths2"):
        assert unit_of_name(name) == "months"
    for name in ("age_at_12_months", "age_month12", "age_12mo", "age_years", "age_holidays"):
        assert unit_of_name(name) == ""


def test_paths_of_other_machines_are_understood_or_named(read, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in dir").mkdir()
    (tmp_path / "in dir" / "d.nii").touch()
    cells = ["in dir\\d.nii", "~/in dir/d.nii", f"file://{tmp_path}/in%20dir/d.nii"]
    found = {find_path(cell, tmp_path) for cell in cells}
    assert found == {str(tmp_path / "in dir" / "d.nii")}
    (tmp_path / "odd\\name.nii").touch()
    assert find_path("odd\\name.nii", tmp_path) == str(tmp_path / "odd\\name.nii")
    with pytest.raises(CohortError, match="Windows machine"):
        read("id,age,path\n1,30,C:\\scans\\a.nii\n")


def test_text_in_an_excel_formula_is_the_text(read) -> None:
    table = read('id,age,path\n"=""007""","=""45""",a.nii\n=x,46,b.nii\n').cohort.table
    assert table["scan_id"].tolist() == ["007", "=x"] and table["age_years"].tolist() == [45, 46]


def test_comment_lines_are_left_out_and_counted(read) -> None:
    reading = read("# by me, 2020\nid,age,path\n1,30,a.nii\n#2,31,b.nii\n3,32,c.nii\n")
    assert reading.cohort.table["scan_id"].tolist() == ["1", "3"]
    assert "2 lines are comments" in reading.notes[0]


def test_two_rows_of_a_person_suggest_a_session_column(read) -> None:
    with pytest.raises(CohortError, match="column of the session"):
        read("subject,age,path\np,30,a.nii\np,32,b.nii\n")


@pytest.mark.parametrize("name", ["pipe", "win_paths", "age_lower_y", "sex_0m_1f"])
def test_strange_tables_are_read(name: str, tmp_path: Path) -> None:
    source = STRANGE / f"{name}.csv"
    if not source.exists():
        pytest.skip("the reproducers are not here")
    (tmp_path / "t.csv").write_bytes(source.read_bytes())
    for number in range(1, 13):
        scan = tmp_path / f"imgs/sub-{number:04}/anat/sub-{number:04}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.touch()
    table = load_cohort(tmp_path / "t.csv").cohort.table
    assert table["age_years"].between(26, 83).all() and len(table) == 12
    assert set(table["sex"]) == ({""} if name == "sex_0m_1f" else {"M", "F"})


def test_m_beside_h_or_v_alone_may_be_the_women() -> None:
    assert parse_sexes(["H", "M", "m"], "sex")[0] == ["", "", ""]
    assert "H, M" in parse_sexes(["H", "M"], "sex")[1]
    assert parse_sexes(["M", "V"], "sex", {"M": "man", "V": "woman"})[0] == ["M", "F"]
    assert parse_sexes(["m", "w"], "sex")[0] == ["M", "F"]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("dx != 'ad'", "no cell of dx is 'ad'; it holds AD, CN, MCI."),
        ("age > 1 and sex not in ['M', 'male']", "no cell of sex is 'M'; it holds f, male."),
        ("dx == 'AD' or dx != dx or 'CN' == dx", ""),
    ],
)
def test_texts_of_a_filter_that_no_cell_has_are_said(read, where: str, told: str) -> None:
    """Such a filter leaves nobody out, and keeps the patients."""
    rows = "a,60,AD,male,a.nii\nb,61,CN,f,b.nii\nc,62,MCI,,c.nii\n"
    assert "".join(read(f"id,age,dx,sex,path\n{rows}", where=where).notes) == told
