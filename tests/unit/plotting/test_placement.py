"""Pictures of scans: a PNG each, and one page that needs no other file."""

import numpy as np

from brainage.cohorts.phantom import build_phantom
from brainage.plotting.placement import SheetTile, build_sheet, draw_scan
from brainage.preprocessing.pipeline import process_volume
from brainage.types import LedgerEntry
from tests.heads import FAST


def test_a_scan_is_drawn_as_png() -> None:
    brain = build_phantom(50, np.random.default_rng(0), np.random.default_rng(1))
    picture = draw_scan(process_volume(brain, FAST, "sub-7"), "sub-7")
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_the_sheet_holds_every_scan_worst_first_and_nothing_from_outside() -> None:
    tiles = [
        SheetTile(LedgerEntry("sub-1", "prepare", "ok"), b"\x89PNG1"),
        SheetTile(LedgerEntry("sub-2", "prepare", "failed", "no <brain>")),
    ]
    page = build_sheet(tiles, "cohort <x>")
    assert page.index("sub-2: failed") < page.index("sub-1: ok")
    assert "1 ok, 0 flagged, 1 failed" in page
    assert "no &lt;brain&gt;" in page
    assert "cohort &lt;x&gt;" in page
    assert "http" not in page
