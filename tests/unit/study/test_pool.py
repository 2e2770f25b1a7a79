"""The paired difference of methods over seeds."""

from pathlib import Path

import pandas as pd
import pytest

from brainage.config import dump_config, load_preset, with_changes
from brainage.errors import CohortError
from pipelines.study.pool import pool, read_predictions


def test_errors_are_averaged_over_seeds_and_predictions_for_the_ensemble() -> None:
    rows = [
        {"site": site, "scan_id": scan, "subject_id": scan, "age_years": 50.0}
        | {"method": method, "seed": seed, "predicted_age_years": 50.0 + gap}
        for site, scan in (("a", "1"), ("a", "2"), ("b", "3"))
        for method, gaps in (("bp", (2.0, 2.0)), ("lfnn_l", (3.0, -1.0)))
        for seed, gap in enumerate(gaps)
    ]
    found = pool(pd.DataFrame(rows)).set_index(["cohort", "method", "way"])
    assert found.loc[("all", "lfnn_l", "each"), "mae_years"] == pytest.approx(2.0)
    assert found.loc[("all", "lfnn_l", "ensemble"), "mae_years"] == pytest.approx(1.0)
    assert found.loc[("a", "lfnn_l", "ensemble"), "difference_mean"] == pytest.approx(-1.0)
    assert found.loc[("b", "bp", "each"), "scans"] == 1


@pytest.mark.parametrize("drawn", [[0, 1, 2], [0, 1, 2, 3, 3]])
def test_methods_of_other_seeds_are_refused(drawn: list[int]) -> None:
    table = pd.DataFrame(
        {"site": "a", "scan_id": "1", "subject_id": "1", "age_years": 50.0}
        | {"method": ["bp", "bp", "lfnn_l", "lfnn_l"], "seed": [0, 1, 0, 1]}
        | {"predicted_age_years": [50.0, 60.0, 50.0, 60.0]},
    )
    with pytest.raises(CohortError, match="seed 1"):
        pool(table.loc[drawn])


def test_repeats_of_a_training_count_one_by_one(tmp_path: Path) -> None:
    config = with_changes(load_preset("phantom"), {"learning.method": "bp"})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    (tmp_path / "predictions.csv").write_text("scan_id,predicted_age_years\n1,51\n")
    (tmp_path / "predictions_by_repeat.csv").write_text(
        "scan_id,predicted_age_years,repeat\n1,50,0\n1,52,1\n"
    )
    found = read_predictions(tmp_path)
    assert list(found["predicted_age_years"]) == [50, 52]
    assert set(found["method"]) == {"bp"} and list(found["seed"]) == [0, 1]
