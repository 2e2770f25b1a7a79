"""Tables of predictions that `evaluate`, `groups` and `reliability` refuse in a line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.splits import hash_ids
from brainage.errors import CohortError, ConfigError
from brainage.workflows.evaluate import (
    BiasCorrection,
    check_predictions,
    evaluate,
    read_predictions,
    unseen_rows,
)
from brainage.workflows.inputs import check_evaluated
from brainage.workflows.results import read_level

HEADER = "scan_id,age_years,predicted_age_years\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,-5,40\n", "age_years holds -5, expected 0 to 120 years"),
        ("a,50,51\nb,121,80\n", "age_years holds 121"),
        ("a,50,1e308\n", r"predicted_age_years holds 1e\+308, expected -100 to 300"),
        ("a,50,-999\n", "predicted_age_years holds -999"),
        ("a,50,inf\n", "predicted_age_years holds what is not a number"),
        (",50,51\n", "scan_id has blank cells"),
        ("a,50,51\nb,40,41\na,50,52\n", "1 scan ids come more than once, the first is 'a'"),
        ("a,50,51\nb,40,-99\n", "predicted_age_years holds -99; all else is 51 to 51"),
        ("a,50,51\nb,40,0\n", "predicted_age_years holds 0; all else"),
        ("a,50,51\nb,0,40\n", "age_years holds 0; all else is 50 to 50"),
        ("a,50,old\n", "predicted_age_years holds what is not a number"),
    ],
)
def test_what_is_no_age_is_refused(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(HEADER + rows)
    with pytest.raises(CohortError, match=message):
        read_predictions(path)


def test_missing_ages_and_odd_predictions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(HEADER + "a,,40\nb,0,-3\nc,120,131\nd,9,8\n")
    assert read_predictions(path)["predicted_age_years"].tolist() == [40, -3, 131, 8]


@pytest.mark.parametrize(
    ("header", "rows", "people"),
    [
        ("scan_id,participant_id", "a,007\nb,7\nc,7\n", ["007", "7", "7"]),
        ("scan_id,RID,subject_id", "a,1,x\nb,1,y\nc,1,\n", ["x", "y", "c"]),
        ("scan_id", "sub-1_ses-1\nsub-1_ses-2_run-1\nsub-10\n", ["sub-1", "sub-1", "sub-10"]),
        ("scan_id", "a_1\na_2\nb\n", ["a_1", "a_2", "b"]),
    ],
)
def test_whose_scans_they_are_is_found(
    header: str, rows: str, people: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("".join(f"{row},50,51\n" for row in rows.split()))
    path.write_text(f"{header},age_years,predicted_age_years\n{path.read_text()}")
    assert read_predictions(path)["subject_id"].tolist() == people


def test_of_two_columns_of_people_none_is_taken() -> None:
    table = predicted().assign(RID=1, PTID=2)
    with pytest.raises(CohortError, match="'RID' and 'PTID' could both be subject_id"):
        check_predictions(table, "here")


def test_comments_of_a_table_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(HEADER + "#7,50,51\nb,40,41\n")
    with pytest.warns(UserWarning, match="1 lines are comments"):
        assert len(read_predictions(path)) == 1


def test_options_of_a_model_beside_a_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--where, --skip-bad has no meaning"):
        check_evaluated(tmp_path, {"model": None, "where": "age > 3", "skip-bad": True})
    check_evaluated(tmp_path, {"model": None, "where": None, "skip-bad": False})
    with pytest.raises(ConfigError, match="--model with --cohort"):
        check_evaluated(None, {"model": "m", "where": "age > 3", "skip-bad": True})


def predicted(people: int = 12, **columns: float) -> pd.DataFrame:
    ages = np.linspace(70, 80, people)
    table = pd.DataFrame({"scan_id": [f"s{n}" for n in range(people)], "age_years": ages})
    return table.assign(predicted_age_years=ages + 4, **columns)


def test_the_constant_is_that_of_the_training_not_of_the_evaluated_scans(tmp_path: Path) -> None:
    table = predicted(constant_predicted_age_years=40.0)
    metrics = evaluate(table, tmp_path)
    assert metrics["baselines"]["constant"]["mae_years"] == pytest.approx(35.0)
    # A table that does not tell of the training is compared with no constant.
    assert evaluate(predicted(), tmp_path)["baselines"] == {}


def test_a_model_that_is_no_better_than_the_constant_warns(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not beat the constant"):
        evaluate(predicted(constant_predicted_age_years=75.0), tmp_path)


def test_a_table_of_a_german_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("\ufeffscan_id;age_years;predicted_age_years\n007;58,22;53,17\n")
    table = read_predictions(path)
    assert table.loc[0, ["scan_id", "age_years"]].tolist() == ["007", 58.22]
    path.write_text(HEADER + 'a,"58,22","53,17"\nb,40,\n')
    assert read_predictions(path)["predicted_age_years"][0] == 53.17


def test_a_missing_prediction_is_named_as_such(tmp_path: Path, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("brainage.workflows.evaluate.warn", said.append)
    table = predicted()
    table.loc[3, "predicted_age_years"] = np.nan
    assert evaluate(table, tmp_path)["n"] == 11
    assert "1 scans without a prediction" in said[0] and "'s3'" in said[0]


def test_intervals_that_end_before_they_start_are_refused(tmp_path: Path) -> None:
    table = predicted(interval_low_years=90.0, interval_high_years=60.0)
    with pytest.raises(CohortError, match="ends below its start"):
        evaluate(table, tmp_path)


class Learned:
    """A bundle's facts, with the hashes of one scan or one person in training."""

    def __init__(self, key: str, identity: str) -> None:
        self.facts = {key: {"train": hash_ids([identity]), "validation": []}}


@pytest.mark.parametrize(
    "bundle", [Learned("split_id_hashes", "a_1"), Learned("split_subject_hashes", "a")]
)
def test_no_scan_of_a_person_in_training_is_a_test(bundle: Learned) -> None:
    table = pd.DataFrame({"scan_id": ["a_1", "a_2", "b_1"], "subject_id": ["a", "a", "b"]})
    with pytest.warns(UserWarning, match="2 of 3 scans"):
        assert unseen_rows(bundle, table).tolist() == [False, False, True]


def test_patients_without_a_fold_are_corrected_by_all_controls(tmp_path: Path) -> None:
    """They stand below the controls' out-of-fold predictions, and had a blank."""
    random = np.random.default_rng(0)
    table = predicted(40).assign(fold=np.arange(40) % 2.0, dx="CN")
    table["predicted_age_years"] += random.normal(0, 1, 40)
    table.loc[30:, ["fold", "dx"]] = np.nan, "AD"
    evaluate(table, tmp_path, correction=BiasCorrection("beheshti", "dx == 'CN'"))
    found = pd.read_csv(tmp_path / "predictions.csv")["brain_age_gap_corrected_years"]
    slope, start = np.polyfit(table["age_years"][:30], table["predicted_age_years"][:30], 1)
    line = start + slope * table["age_years"][30:]
    assert found[30:].to_numpy() == pytest.approx((table["predicted_age_years"][30:] - line).array)
    assert found.notna().all()


def test_coverage_of_an_earlier_table_does_not_stay(tmp_path: Path) -> None:
    table = pd.DataFrame({"scan_id": ["a", "b"], "age_years": [30, 60]})
    table["predicted_age_years"] = [34, 58]
    intervals = table.assign(interval_low_years=[20, 50], interval_high_years=[40, 70])
    evaluate(intervals, tmp_path)
    assert (tmp_path / "coverage.csv").exists()
    evaluate(table, tmp_path)
    assert not [*tmp_path.glob("coverage.*")]


def test_a_table_is_not_written_over_by_its_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("scan_id,age_years,predicted_age_years\na,30,34\nb,,50\n")
    with pytest.raises(ConfigError, match="--output"):
        evaluate(path, tmp_path)
    assert len(read_predictions(path)) == 2


def test_level_of_intervals_is_what_their_table_says() -> None:
    table = pd.DataFrame({"scan_id": ["a", "b"]})
    assert read_level(table, 0.9) == 0.9
    assert read_level(table.assign(interval_level=[0.5, np.nan]), 0.9) == 0.5
    with pytest.raises(CohortError, match="2 levels"):
        read_level(table.assign(interval_level=[0.5, 0.8]), 0.9)
