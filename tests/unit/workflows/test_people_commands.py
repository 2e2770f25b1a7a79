"""`brainage longitudinal` and `associate` on tables of predictions, as a person types them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from brainage.cli.main import app


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def write_predictions(path: Path, years: float, *, people: int = 20, seed: int = 0) -> Path:
    """Two scans a person some years apart; the gap grows by half a year a year."""
    random = np.random.default_rng(seed)
    first = random.uniform(50, 80, people)
    base = random.normal(0, 5, people)
    rows = [
        pd.DataFrame(
            {
                "scan_id": [f"{path.stem}-{number}-{visit}" for number in range(people)],
                "subject_id": [f"{path.stem}-{number}" for number in range(people)],
                "age_years": first + visit * years,
                "predicted_age_years": first
                + base
                + 1.5 * visit * years
                + random.normal(0, 0.8, people),
                "score": 30 - 0.5 * base + random.normal(0, 1, people),
            }
        )
        for visit in (0, 1)
    ]
    pd.concat(rows).to_csv(path, index=False)
    return path


def within_sd(path: Path) -> float:
    """Of the gap in pairs: root of the mean of half the squared differences."""
    table = pd.read_csv(path)
    gap = (table["predicted_age_years"] - table["age_years"]).to_numpy().reshape(2, -1)
    return float(np.sqrt(((gap[1] - gap[0]) ** 2 / 2).mean()))


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_predictions(folder / "visits.csv", 3.0)
    write_predictions(folder / "retests.csv", 0.1, seed=1)
    return folder


def test_change_of_the_cohort_and_of_each_person_is_written(tables, tmp_path):
    common = ("longitudinal", "--predictions", tables / "visits.csv", "--output", tmp_path)
    assert "no retests" in run(*common)
    assert pd.read_csv(tmp_path / "change.csv")["within_sd_years"].isna().all()
    said = run(*common, "--retests", tables / "retests.csv")
    assert "smallest detectable change between two scans" in said
    row = pd.read_csv(tmp_path / "change.csv").iloc[0]
    assert row["n_subjects"] == 20 and 0 < row["ci_low"] < 0.5 < row["ci_high"]
    assert row["within_sd_years"] == pytest.approx(within_sd(tables / "retests.csv"))
    smallest = 1.96 * np.sqrt(2) * row["within_sd_years"]
    assert row["smallest_detectable_change_years"] == pytest.approx(smallest)
    people = pd.read_csv(tmp_path / "longitudinal.csv")
    assert len(people) == 20 and (people["smallest_detectable_per_year"] > 0).all()
    assert (tmp_path / "change.png").exists()


def test_retests_in_the_table_itself_tell_the_noise(tables, tmp_path):
    run("longitudinal", "--predictions", tables / "visits.csv", "--predictions",
        tables / "retests.csv", "--output", tmp_path)  # fmt: skip
    row = pd.read_csv(tmp_path / "change.csv").iloc[0]
    assert row["n_subjects"] == 40
    assert row["within_sd_years"] == pytest.approx(within_sd(tables / "retests.csv"))


def test_two_sources_of_the_noise_are_refused(tables, tmp_path):
    common = ("longitudinal", "--predictions", tables / "visits.csv", "--output", tmp_path)
    told = run(*common, "--retests", tables / "retests.csv", "--within-sd", 2, code=2)
    assert "--within-sd or --retests" in told
    told = run(*common, "--within-sd", 0, code=2)
    assert "--within-sd" in told
    assert "hours" in run(*common, "--time", "hours", code=2)


def test_gap_is_related_to_a_joined_column_one_scan_a_person(tables, tmp_path):
    common = ("associate", "--predictions", tables / "visits.csv", "--output", tmp_path)
    said = run(*common, "--covariate", "score", "--measure", "predicted_age_years")
    assert "n 20" in said and "20 repeated scans are left out" in said
    table = pd.read_csv(tmp_path / "associations.csv")
    assert list(table["measure"]) == ["brain_age_gap_years", "predicted_age_years"]
    assert table["ci_high"].iloc[0] < 0 and {"p_holm", "partial_r", "n"} < set(table)
    assert (tmp_path / "brain_age_gap_years-score.png").exists()
    assert "scan_id" in run(*common, "--covariate", "scan_id", code=2)
