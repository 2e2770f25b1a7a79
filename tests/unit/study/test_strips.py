"""Heads and their strips, in MNI space."""

from pathlib import Path

import pytest

from pipelines.study import strips


def test_a_real_head_lies_where_its_strips_lie(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Placed once, from where a coarse registration had left it, this head lay 1.2 mm away.
    monkeypatch.setattr(strips, "BACKGROUNDS", (-1000.0,))
    scan = data_root / "ixi_hh" / "sub-IXI039" / "anat" / "sub-IXI039_T1w.nii.gz"
    rows = {row["strip"]: row for row in strips.compare_strips(scan, tmp_path)}
    loose = [rows["2 mm loose"], rows["2 mm loose, -1000 outside"]]
    assert all(row["moved_mm"] < 0.5 for row in [rows["own mask"], *loose])
    assert loose[0]["moved_mm"] == loose[1]["moved_mm"]
    assert rows["2 mm tight"]["verdict"] == "flagged"
