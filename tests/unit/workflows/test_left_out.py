"""One command leaves each site out in turn and tells the errors there."""

import pandas as pd
import pytest

import brainage


@pytest.fixture(scope="module")
def cohort(phantom_cohort, tmp_path_factory):
    table = pd.read_csv(phantom_cohort)[:12].assign(site=["north", "south"] * 6)
    table["path"] = [str(phantom_cohort.parent / path) for path in table["path"]]
    path = tmp_path_factory.mktemp("cohort") / "cohort.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(autouse=True)
def no_warnings(recwarn):
    """Tiny trainings beat no baseline."""


SHORT = {"training.epochs": 1}


def test_training_tells_the_error_on_each_site_left_out(cohort, tmp_path):
    run = brainage.train(cohort, tmp_path / "run", "phantom", settings=SHORT, leave_site_out=True)
    table = pd.read_csv(run.folder / "left_out.csv").set_index("site")
    for site, part in run.predictions.groupby("site"):
        gap = part["predicted_age_years"] - part["age_years"]
        assert table.loc[site, "mae_years"] == pytest.approx(gap.abs().mean())
        assert part["fold"].nunique() == 1
    assert len(table) == 2


def test_methods_are_compared_on_each_site_left_out(cohort, tmp_path):
    brainage.compare(
        cohort,
        tmp_path / "run",
        config="phantom",
        settings=SHORT,
        leave_site_out=True,
    )
    sites = pd.read_csv(tmp_path / "run" / "sites.csv").set_index(["site", "method"])
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert len(sites) == 4 and set(sites["n_runs"]) == {1}
    for keys, part in predictions.groupby(["site", "method"]):
        gap = part["predicted_age_years"] - part["age_years"]
        assert sites.loc[keys, "mae_years"] == pytest.approx(gap.abs().mean())
    other = sites.xs("lfnn_l", level="method")["mae_difference_years"]
    assert other.notna().all()
