"""What the table of masks comes to."""

import pandas as pd

from pipelines.study.masks import summarise


def test_missed_volume_that_grows_with_age_is_told() -> None:
    part = pd.DataFrame(
        {
            "scan": ["a", "b", "c", "d"],
            "dice": [0.97, 0.96, 0.95, 0.94],
            "missed_litres": [0.01, 0.02, 0.03, 0.04],
            "extra_litres": [0.02] * 4,
        }
    )
    ages = pd.Series({"a": 20.0, "b": 40.0, "c": 60.0})
    told = summarise(part, ages)
    assert "median Dice 0.955" in told and "smallest 0.940" in told
    assert "missed 0.025 L" in told and told.endswith("age 1.00")
