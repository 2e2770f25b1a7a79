"""The command that makes the quality gate's limits from reference cohorts."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.phantom import build_phantom
from brainage.preprocessing.verdict import LIMITS_FILE
from brainage.sandbox.child import run_task
from brainage.sandbox.parent import Outcome
from brainage.types import Json
from brainage.workflows.console import run_as_command
from pipelines.release import limits


def run_here(task: str, arguments: list[Json], _: object) -> Iterator[tuple[int, Outcome]]:
    for position, argument in enumerate(arguments):
        answer = run_task({"function": task, "argument": argument})
        yield position, Outcome(answer.get("result"), answer.get("error", ""), 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Phantoms in MNI space, one of which is no image."""
    folder = tmp_path / "data" / "oasis1" / "t1"
    folder.mkdir(parents=True)
    for seed in range(9):
        rngs = [np.random.default_rng([seed, part]) for part in (0, 1)]
        brain = build_phantom(40, *rngs, spacing_mm=4)
        values = (brain.data > 0).astype(np.float32) if seed == 4 else brain.data
        nib.save(nib.Nifti1Image(values, brain.affine), folder / f"{seed}.nii.gz")
    return tmp_path / "data"


def test_limits_come_from_the_scans_that_can_be_placed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "run_tasks", run_here)
    before, output = LIMITS_FILE.read_bytes(), tmp_path / "out"
    for _ in range(2):  # the second run takes up what the first one placed
        words = ["limits", "--data", str(data), "--output", str(output)]
        monkeypatch.setattr(sys, "argv", words)
        assert run_as_command(limits.main) == 0
    made = json.loads((output / "limits.json").read_text())
    assert made["scans"] == {"extracted brain": 2, "mni brain": 8}
    assert "high" in made["limits"]["mni brain"]["noise"] and LIMITS_FILE.read_bytes() == before
    table = pd.read_csv(output / "measures.csv")
    assert len(table) == 10 and table["extracted_correlation"].notna().sum() == 2
    told = capsys.readouterr().out
    assert "left out: 4.nii.gz" in told and "mni brain: 8 scans" in told


def test_a_scan_of_another_kind_than_it_should_be_is_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "run_tasks", run_here)
    path = next((data / "oasis1" / "t1").iterdir())
    listed = [limits.Reference("raw head", "a", str(path))]
    assert limits.measure_all(listed, tmp_path / "out", 1) == []


def test_a_pose_turns_and_shifts_within_bounds() -> None:
    pose = limits.random_pose(np.random.default_rng(0))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert 0 < np.abs(pose[:3, 3]).max() <= limits.MAX_SHIFT_MM
