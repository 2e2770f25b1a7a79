"""Errors on sites that no model was trained on."""

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError
from brainage.evaluation.left_out import FAR_YEARS, left_out_markdown, left_out_table
from brainage.evaluation.metrics import age_metrics


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    age = random.uniform(20, 80, 60)
    gap = random.normal(3, 8, 60)
    return pd.DataFrame(
        {
            "site": np.repeat(["b", "a"], [40, 20]),
            "subject_id": [f"s{number // 2}" for number in range(60)],
            "age_years": age,
            "predicted_age_years": age + gap,
            "interval_low_years": age - 1,
            "interval_high_years": age + np.where(np.arange(60) < 20, -0.5, 1),
        }
    )


def test_each_site_has_the_metrics_of_its_own_scans(table):
    found = left_out_table(table).set_index("site")
    assert list(found.index) == ["a", "b"]
    for site, part in table.groupby("site"):
        age, predicted = part["age_years"], part["predicted_age_years"]
        expected = age_metrics(age, predicted, subject_ids=list(part["subject_id"]))
        for name in ("n", "mae_years", "mae_ci_low", "mae_ci_high", "r", "bias_years"):
            assert found.loc[site, name] == expected[name]
        far = ((predicted - age).abs() > FAR_YEARS).mean()
        assert found.loc[site, "far_share"] == pytest.approx(far)
    assert found["coverage"].tolist() == [1.0, 0.5]


def test_each_site_of_forty_people_tells_what_controls_give(table):
    large = pd.concat([table.assign(subject_id=[f"s{n}" for n in range(60)]), table[:20]])
    large.loc[large["site"] == "b", "predicted_age_years"] += 20
    found = left_out_table(large).set_index("site")
    assert np.isnan(found.loc["a", "controls_gain_years"])
    assert found.loc["b", "controls_gain_years"] > found.loc["b", "mae_years"] / 2
    words = left_out_markdown(found.reset_index())
    assert f"| {found.loc['b', 'controls_gain_years']:+.2f} |" in words and "| – |" in words


def test_one_scan_of_a_site_and_a_table_without_intervals_are_told_too(table):
    few = table[19:41].drop(columns=["interval_low_years", "interval_high_years"])
    found = left_out_table(few)
    assert "coverage" not in found and found["n"].tolist() == [1, 21]
    assert "| a | 1 |" in left_out_markdown(found)


def test_a_table_without_sites_is_refused(table):
    with pytest.raises(CohortError, match="lacks column site"):
        left_out_table(table.drop(columns="site"))
