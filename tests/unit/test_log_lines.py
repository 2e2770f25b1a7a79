"""A log gets a line of progress a minute, and none of what is done sooner."""

import io
import time

import pytest
from rich.console import Console

from brainage.log_lines import LogLines
from brainage.training.callbacks import ProgressBar
from brainage.workflows import console


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed: one number, to be changed."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute_tells_what_is_left(clock: list[float]) -> None:
    written: list[str] = []
    lines = LogLines(written.append)
    lines.tell("scans", 2, 10)
    clock[0] = 59
    lines.tell("scans", 3, 10)
    assert not written
    clock[0] = 120
    lines.tell("scans", 4, 10)  # two in two minutes
    clock[0] = 121
    lines.tell("scans", 5, 10)
    assert written == ["scans: 4 of 10, about 6 min left"]


def test_nothing_is_foretold_before_anything_is_done(clock: list[float]) -> None:
    written: list[str] = []
    lines = LogLines(written.append)
    lines.tell("scans", 4, 10)
    clock[0] = 61
    lines.tell("scans", 4, 10)
    lines.tell("scans", 5, None)
    assert written == ["scans: 4 of 10"]


def test_scans_and_training_write_lines_where_there_is_no_terminal(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=log))
    monkeypatch.setattr(console, "_terminal", True)
    monkeypatch.setattr("rich._console", Console(file=log))
    with console.scan_progress("preparing scans") as progress:
        clock[0] = 61
        progress(1, 3)
    bar = ProgressBar("lfnn_l seed 0")
    bar.on_fit_start(2, 5, 1)
    clock[0] = 200
    bar.on_step_end(2, 0.5)
    bar.on_fit_end()
    text = log.getvalue()
    assert "preparing scans: 1 of 3, about 2 min left" in text
    assert "epoch 2  loss 0.500, steps: 6 of 10" in text
