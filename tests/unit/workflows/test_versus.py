"""A model's predictions beside another's on the same scans."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import BrainageError
from brainage.evaluation.metrics import paired_difference, subject_interval
from brainage.workflows.versus import versus


@pytest.fixture
def own() -> pd.DataFrame:
    random = np.random.default_rng(0)
    age = random.uniform(20, 80, 30).round(1)
    predicted = age + random.normal(0, 4, 30)
    return pd.DataFrame(
        {
            "scan_id": [f"s{number}" for number in range(30)],
            "age_years": age,
            "predicted_age_years": predicted,
            "interval_low_years": predicted - 5,
            "interval_high_years": predicted + 5,
        }
    )


@pytest.fixture
def other(own) -> pd.DataFrame:
    drawn = np.random.default_rng(1).normal(3, 8, 30)
    plain = own[["scan_id", "age_years"]].assign(predicted_age_years=own["age_years"] + drawn)
    return plain.sample(frac=1, random_state=0)


def run(folder, own, other):
    own.to_csv(folder / "own.csv", index=False)
    other.to_csv(folder / "other.csv", index=False)
    found = versus(folder / "own.csv", [folder / "other.csv"], folder / "out")
    assert (folder / "out" / "versus.png").stat().st_size > 5000
    return found.set_index("model")


def test_scans_are_paired_whatever_their_order(own, other, tmp_path):
    found = run(tmp_path, own, other)
    aligned = other.set_index("scan_id").loc[own["scan_id"], "predicted_age_years"].to_numpy()
    errors = [np.abs(values - own["age_years"]) for values in (own["predicted_age_years"], aligned)]
    paired = paired_difference(*errors, list(own["scan_id"]))
    row = found.loc["other"]
    assert row["network_minus_years"] == pytest.approx(paired["mean"])
    assert row["network_minus_ci_low"] == pytest.approx(paired["ci_low"])
    assert row["bias_years"] == pytest.approx((aligned - own["age_years"]).mean())
    inside = (own["predicted_age_years"] - own["age_years"]).abs() <= 5
    assert found.loc["network", "coverage"] == pytest.approx(inside.mean())
    assert np.isnan(row["coverage"])


def test_people_that_one_table_alone_tells_are_resampled(own, other, tmp_path):
    people = {f"s{number}": f"p{number % 6}" for number in range(30)}
    found = run(tmp_path, own, other.assign(subject_id=other["scan_id"].map(people)))
    errors = (own["predicted_age_years"] - own["age_years"]).abs().to_numpy()
    low, high = subject_interval(errors, list(people.values()), seed=0, bootstrap=2000)
    row = found.loc["network"]
    assert (row["mae_ci_low"], row["mae_ci_high"]) == pytest.approx((low, high))


def test_only_scans_that_all_tables_predict_count(own, other, tmp_path):
    own.loc[3, "predicted_age_years"] = np.nan
    found = run(tmp_path, own, other[other["scan_id"] != "s7"])
    assert found["n"].tolist() == [28, 28]
    assert not {"s3", "s7"} & set(pd.read_csv(tmp_path / "out" / "predictions.csv")["scan_id"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.assign(scan_id="x" + table["scan_id"]),
        lambda table: table.assign(age_years=table["age_years"] + 2),
        lambda table: pd.concat([table, table.head(1)]),
        lambda table: table.drop(columns="predicted_age_years"),
    ],
    ids=["no shared scan", "other ages", "a scan twice", "no predictions"],
)
def test_tables_that_cannot_be_paired_are_refused(spoil, own, other, tmp_path):
    with pytest.raises(BrainageError):
        run(tmp_path, own, spoil(other))


def test_two_tables_of_one_name_are_refused(own, tmp_path):
    own.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(BrainageError, match="two tables are named own"):
        versus(tmp_path / "own.csv", [tmp_path / "own.csv"] * 2, tmp_path / "out")
