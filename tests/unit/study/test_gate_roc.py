"""Table and curve of how well the joint score tells scans apart."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainage.preprocessing.verdict import FAIL_JOINT_OF_HEADS, load_limits
from pipelines.study import gate_roc

LIMITS = load_limits()["raw head"]
GOOD = {name: limit["median"] for name, limit in LIMITS.items() if "median" in limit}


def row(damage: str, away: float, verdict: str) -> dict[str, object]:
    """A scan whose noise and overlap lie so many limits away from the median."""
    moved = {
        name: GOOD[name] + away * (LIMITS[name][side] - GOOD[name])
        for name, side in (("noise", "high"), ("mask_overlap", "low"))
    }
    return {"damage": damage, "recognised": "raw head", "verdict": verdict, **GOOD, **moved}


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [row("none", 0.1 * number, "ok") for number in range(10)]
    rows += [row("noise", 0.55, "flagged"), row("top of the brain cut by 3 cm", 1.0, "flagged")]
    rows.append(row("T2", 4.0, "failed"))
    rows.append({"damage": "mask", "recognised": "", "verdict": "failed", **dict.fromkeys(GOOD)})
    return pd.DataFrame(rows)


def test_scores_are_in_units_of_what_fails(table: pd.DataFrame) -> None:
    scores = gate_roc.score_rows(table)
    np.testing.assert_allclose(scores[:10], 0.1 * np.arange(10) * np.sqrt(2) / FAIL_JOINT_OF_HEADS)
    assert np.isinf(scores[-1])


def test_the_area_is_how_often_a_bad_scan_scores_higher(table: pd.DataFrame) -> None:
    table = table.assign(joint=gate_roc.score_rows(table))
    good = table["joint"][:10]
    assert gate_roc.area(good, table["joint"][10:11]) == pytest.approx(0.6)
    assert gate_roc.area(good, table["joint"][12:]) == 1.0


def test_table_and_picture_are_written(table: pd.DataFrame, tmp_path: Path) -> None:
    gate_roc.write_roc(table, tmp_path)
    lines = (tmp_path / "gate.md").read_text().splitlines()
    assert "| 10 | 100.0% | 0.0% | 0.0% |" in lines[2] and lines[5].endswith("| 1.000 |")
    assert (tmp_path / "gate_roc.png").stat().st_size > 5000


def test_every_damage_has_a_class() -> None:
    from pipelines.study.damage import DAMAGES

    known = [name for names in gate_roc.CLASSES.values() for name in names]
    assert sorted(known) == sorted(DAMAGES)
