"""Damaged inputs give a result or one clear error: kept finds, and some fresh ones a reader.

The whole campaign: `make fuzz`; its table: docs/benchmarks/log/fuzz.md.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.fuzz.campaign import CORPUS, draw, run_corpus_case
from tools.fuzz.promise import KEPT, attempt
from tools.fuzz.structure import STRUCTURES
from tools.fuzz.target import put
from tools.fuzz.targets import TARGETS

# Readers that start programs, or compute much.
FRESH = {
    "dicom": 10,
    "dicom_folder": 3,
    "jpeg": 30,
    "predictions": 5,
    "plans": 5,
    "ensemble": 5,
    "node": 5,
}
MAX_FRESH = 20


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_readers_keep_their_promise_on_damaged_inputs(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for number in range(FRESH.get(name, MAX_FRESH)):
        folder = tmp_path / str(number)
        put(draw(target, number, seeds), folder)
        outcome = attempt(target, folder)
        assert outcome in KEPT, f"input {number}: {outcome}"


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@given(choices=st.data())
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_readers_keep_their_promise_on_extreme_content(
    name: str, tmp_path_factory: pytest.TempPathFactory, choices: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("input")
    put(choices.draw(STRUCTURES[name]()), folder)
    assert attempt(TARGETS[name], folder) in KEPT


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_healthy_inputs_are_not_refused_for_their_form(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    outcomes = []
    for number, seed in enumerate(target.seeds()):
        put(seed, tmp_path / str(number))
        outcomes.append(attempt(target, tmp_path / str(number)))
    # The tables' scans do not exist, one slice is no series, and the tracker is down.
    refused = {
        "table": len(outcomes),
        "dicom": 1,
        "dicom_folder": 1,
        "node": 1,
        "events": 1,
        "predictions": 1,
    }
    assert outcomes.count("refused") == refused.get(name, 0) and set(outcomes) <= set(KEPT)


@pytest.mark.parametrize(
    "case", sorted(CORPUS.glob("*/*")), ids=lambda c: f"{c.parent.name}-{c.name}"
)
def test_kept_finds_stay_mended(case: Path) -> None:
    assert run_corpus_case(case.parent.name, case) in KEPT
