"""Tables of predictions that `evaluate`, `groups` and `reliability` refuse in a line."""

from pathlib import Path

import pytest

from brainage.errors import CohortError, ConfigError
from brainage.workflows.evaluate import read_predictions
from brainage.workflows.inputs import check_evaluated

HEADER = "scan_id,age_years,predicted_age_years\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,-5,40\n", "age_years holds -5, expected 0 to 120 years"),
        ("a,50,51\nb,121,80\n", "age_years holds 121"),
        ("a,50,1e308\n", r"predicted_age_years holds 1e\+308, expected -1000 to 1000"),
        ("a,50,inf\n", "predicted_age_years holds what is not a number"),
        (",50,51\n", "scan_id has blank cells"),
    ],
)
def test_what_is_no_age_is_refused(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(HEADER + rows)
    with pytest.raises(CohortError, match=message):
        read_predictions(path)


def test_missing_ages_and_odd_predictions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(HEADER + "a,,40\nb,0,-3\nc,120,131\n")
    assert read_predictions(path)["predicted_age_years"].tolist() == [40, -3, 131]


def test_options_of_a_model_beside_a_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--where, --skip-bad has no meaning"):
        check_evaluated(tmp_path, {"model": None, "where": "age > 3", "skip-bad": True})
    check_evaluated(tmp_path, {"model": None, "where": None, "skip-bad": False})
    with pytest.raises(ConfigError, match="--model with --cohort"):
        check_evaluated(None, {"model": "m", "where": "age > 3", "skip-bad": True})
