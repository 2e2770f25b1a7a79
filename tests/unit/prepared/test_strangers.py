"""Copies of training scans as strangers might send them: drawn by name, kept, never lost."""

from pathlib import Path

import numpy as np
import pytest

from brainage.cohorts.cohort import Cohort, read_cohort
from brainage.cohorts.phantom import write_phantom_cohort
from brainage.errors import ConfigError, StoreError
from brainage.prepared import strangers
from brainage.sandbox.parent import Outcome
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.masks import ScanOptions
from tests.heads import FAST


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("phantoms")
    return read_cohort(write_phantom_cohort(folder, subjects=2, seed=0)).cohort


def prepare(cohort: Cohort, cache: Path, copies: int, **options: object):
    chosen = CohortOptions(cohort.source, cache=cache, given=cohort, **options)
    return prepare_options(chosen, FAST, copies)[0]


def test_copies_differ_from_the_scan_and_are_made_once(cohort, tmp_path, monkeypatch):
    prepared = prepare(cohort, tmp_path, 1)
    assert prepared.copies.shape == (2, 1, *FAST.shape)
    for scan, (copy,) in zip(prepared.arrays, prepared.copies, strict=True):
        assert not np.array_equal(copy, scan)
        assert np.corrcoef(copy.ravel(), scan.ravel())[0, 1] > 0.5
    monkeypatch.setattr(strangers, "run_tasks", lambda task, given, engine: map(fail, given))
    again = prepare(cohort, tmp_path, 1)
    assert np.array_equal(again.copies, prepared.copies)
    assert prepare(cohort, tmp_path, 0).copies is None


def test_every_copy_has_draws_of_its_own(cohort, tmp_path, monkeypatch):
    seeds: list[int] = []

    def run(task, given, engine):
        seeds.extend(argument["seed"] for argument in given)
        return iter(())

    monkeypatch.setattr(strangers, "run_tasks", run)
    with pytest.raises(StoreError, match="vanished"):
        prepare(cohort, tmp_path, 3)
    assert len(set(seeds)) == 6


def fail(argument: object) -> None:
    raise AssertionError(argument)


def test_a_copy_that_cannot_be_used_is_as_its_scan_is(cohort, tmp_path, monkeypatch):
    bad = Outcome({"reason": "is no usable T1 scan."}, "", 0.0)
    monkeypatch.setattr(
        strangers, "run_tasks", lambda task, arguments, engine: enumerate([bad] * len(arguments))
    )
    with pytest.warns(UserWarning, match="2 of 2 copies cannot be used"):
        prepared = prepare(cohort, tmp_path, 1)
    assert np.array_equal(prepared.copies[:, 0], prepared.arrays)
    monkeypatch.undo()
    again = prepare(cohort, tmp_path, 1)  # a crash need not come again
    assert not np.array_equal(again.copies, prepared.copies)


def test_scans_with_masks_of_their_own_have_no_copies(cohort, tmp_path):
    scans = ScanOptions(command="cp {input} {output}")
    with pytest.raises(ConfigError, match=r"stranger_copies.*is 1"):
        prepare(cohort, tmp_path, 1, scans=scans)
