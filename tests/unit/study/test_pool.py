"""The paired difference of methods over seeds."""

import pandas as pd
import pytest

from pipelines.study.pool import pool


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
