"""Small versions of tools/load/campaign.py: memory stays flat, time grows with the rows."""

import pytest

from brainage.model.released import RELEASED_FOLDER
from tools.load.campaign import run_cohort, soak, time_table
from tools.load.measure import growth_mb

pytestmark = pytest.mark.slow


def test_predictor_does_not_grow_with_the_scans_it_has_seen(tmp_path):
    table = soak(40, RELEASED_FOLDER, tmp_path)
    assert table["pid"].nunique() == 1
    # Caches of libraries fill at first; a scan that stayed would cost some 10 MB each.
    assert growth_mb(table["predictor_mb"].tolist(), 15) < 60
    assert growth_mb(table["server_mb"].tolist(), 5) < 20


def test_commands_need_no_more_memory_for_four_times_the_scans(tmp_path):
    few, many = (run_cohort(rows, tmp_path).groupby("command")["mb"].max() for rows in (20, 80))
    assert ((many - few) < 60).all(), (many - few).to_dict()


def test_large_table_takes_time_in_proportion(tmp_path):
    small, large = (time_table(rows, tmp_path).iloc[0] for rows in (2_000, 20_000))
    for name in ("read and filter", "split", "5 folds"):
        # Ten times the rows: a quadratic step would take a hundred times as long.
        assert large[name] < 40 * max(small[name], 0.02), name
