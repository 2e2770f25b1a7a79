"""Checks on a report: what is shown, its normal range, and where a value lies beside it."""

import pytest

from brainage.preprocessing.verdict import load_limits
from brainage.report import build_report
from brainage.report.checks import measure_gauge
from tests.unit.report.test_report import findings


def test_checks_have_their_normal_range_and_a_mark():
    rows = build_report(findings(measures={"noise": 0.2, "ghost": 0.5, "detail": 0.25})).checks
    checks = {row.name: row for row in rows}
    # A measure within its limits is shown if it is one of the usual ones.
    assert "Detail" not in checks
    assert not checks["Noise"].gauge.is_normal and "at most 0.08" in checks["Noise"].note
    assert not checks["Signal in the air"].gauge.is_normal


@pytest.mark.parametrize(
    ("value", "low", "high", "median", "mark"),
    [
        (3.0, None, 4.0, 2.0, 0.5),
        (2.0, None, 4.0, 2.0, 1 / 3),
        (1.0, 2.0, None, 3.0, 0.0),
        (2.0, 2.0, None, 3.0, 1 / 3),
    ],
)
def test_mark_lies_where_the_value_does(value, low, high, median, mark):
    gauge = measure_gauge(value, low, high, median)
    assert gauge.mark == pytest.approx(mark, abs=1e-3)
    assert gauge.is_normal == ((low or -9) <= value <= (high or 9))


def test_a_page_has_room_for_so_many_checks_and_says_how_many_more_there_are():
    limits = load_limits()["raw head"]
    bad = {name: 2 * limit["high"] for name, limit in limits.items() if limit.get("high", 0) > 0}
    bad |= {name: limit["low"] / 2 for name, limit in limits.items() if limit.get("low", 0) > 0}
    rows = build_report(findings(measures=bad)).checks
    names = [row.name for row in rows]
    assert names.count("More such checks") == 1
    more = int(rows[names.index("More such checks")].value)
    shown = sum(row.gauge is not None and not row.gauge.is_normal for row in rows)
    # One bar more is that of the training scans.
    assert more > 0 and more + shown in (len(bad), len(bad) + 1)
