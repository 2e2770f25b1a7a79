"""Columns of measures: numbers that are none, and the order of scans."""

from contextlib import nullcontext

import pandas as pd
import pytest

from brainage.errors import CohortError
from brainage.evaluation.groups import group_effect
from brainage.evaluation.measures import natural_order, read_numbers, refuse_copies
from brainage.evaluation.reliability import repeated_scans


@pytest.mark.parametrize("cell", ["<3", "3 ml", "True"])
def test_text_among_numbers_is_no_missing_value(cell: str) -> None:
    with pytest.raises(CohortError, match="no number"):
        read_numbers(pd.Series([cell, "4", "5"], name="volume"), "groups")


@pytest.mark.parametrize("code", [-4, -9, -99, -999, -9999, 888, 999, 9999])
def test_codes_of_missing_values_are_refused(code: int) -> None:
    with pytest.raises(CohortError, match=f"holds {code}"):
        read_numbers(pd.Series([code, 40.0, 52.0, None]), "groups")


def test_a_code_of_two_digits_is_refused_beside_small_scores() -> None:
    with pytest.raises(CohortError, match="holds 99; all else is 20 to 30"):
        read_numbers(pd.Series([99, 20.0, 30.0]), "groups")
    assert read_numbers(pd.Series([99, 20.0, 60.0]), "groups")[0] == 99


@pytest.mark.parametrize(
    "values", [[-9.0, -8.0, 3.0], [-99.0, -20.0, 50.0], [999.0, 800.0], [None, 1.0, -0.5]]
)
def test_numbers_among_their_like_are_taken(values: list[float]) -> None:
    column = pd.Series(values)
    pd.testing.assert_series_equal(pd.Series(read_numbers(column, "groups")), column)


def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "scan_id": ["a_ses-10", "a_ses-9", "b_ses-10", "b_ses-9"],
            "subject_id": ["a", "a", "b", "b"],
            "age_years": [50.0, 50.0, 60.0, 60.0],
            "gap": [2.0, 1.0, 5.0, 3.0],
        }
    )


def test_session_10_of_the_same_age_comes_after_9() -> None:
    assert repeated_scans(people(), ["gap"])["gap"].tolist() == [[1.0, 2.0], [3.0, 5.0]]
    ordered = people().sort_values("scan_id", key=natural_order)
    assert ordered["scan_id"].tolist() == ["a_ses-9", "a_ses-10", "b_ses-9", "b_ses-10"]


def test_measures_with_codes_reach_no_comparison() -> None:
    table = people().assign(gap=[-999.0, 1.0, 5.0, 3.0])
    with pytest.raises(CohortError, match="-999"):
        group_effect(table, "gap", (table["age_years"] > 55).to_numpy())
    with pytest.raises(CohortError, match="-999"):
        repeated_scans(table, ["gap"])


@pytest.mark.parametrize(
    ("people", "predicted", "copied"),
    [
        ("aabb", [50.123, 50.123, 60.5, 61.0], True),
        ("aabb", [50.507815679, 50.507814535, 60.5, 61.0], True),  # of another batch
        ("aabb", [50.12, 50.12, 60.5, 61.0], False),  # rounded: may be chance
        ("aabb", [50.123, 50.123, 50.123, 61.0], False),  # a network of few answers
    ],
)
def test_one_scan_as_two_of_a_person_is_refused(people, predicted, copied) -> None:
    table = pd.DataFrame({"subject_id": list(people), "predicted_age_years": predicted})
    table["scan_id"] = ["1", "2", "3", "4"]
    with pytest.raises(CohortError, match="'1' and '2'") if copied else nullcontext():
        refuse_copies(table, "table")
