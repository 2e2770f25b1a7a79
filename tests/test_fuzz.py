"""Damaged inputs give a result or one clear error: kept finds, and some fresh ones a reader.

The whole campaign: `python -m tests.fuzz.campaign`.
"""

from pathlib import Path

import pytest

from tests.fuzz.campaign import CORPUS, attempt, draw, run_corpus_case
from tests.fuzz.targets import TARGETS

FRESH = {"dicom": 15, "jpeg": 40}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_readers_keep_their_promise_on_damaged_inputs(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for number in range(FRESH.get(name, 60)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = attempt(target, draw(target, number, seeds), folder)
        assert outcome in ("read", "refused"), f"input {number}: {outcome}"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_healthy_inputs_are_not_refused_for_their_form(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    outcomes = []
    for number, seed in enumerate(target.seeds()):
        (tmp_path / str(number)).mkdir()
        outcomes.append(attempt(target, seed, tmp_path / str(number)))
    # The table's scans do not exist, and one slice is no series.
    refused = {"table": len(outcomes), "dicom": 1}.get(name, 0)
    assert outcomes.count("refused") == refused and set(outcomes) <= {"read", "refused"}


@pytest.mark.parametrize(
    "case", sorted(CORPUS.glob("*/*")), ids=lambda c: f"{c.parent.name}-{c.name}"
)
def test_kept_finds_stay_mended(case: Path) -> None:
    assert run_corpus_case(case.parent.name, case) in ("read", "refused")
