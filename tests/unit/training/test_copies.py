"""Training on copies of scans: asked for, used, and no part of validation or test."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from brainage.cohorts.splits import make_split
from brainage.config import SplitConfig, with_changes
from brainage.errors import ConfigError
from brainage.training.run import run_hash, train_run
from tests.small import make_config, make_noise_cohort

CONFIG = with_changes(make_config("cnn3d_light"), {"augmentation.stranger_copies": 1}, "test")


@pytest.fixture(scope="module")
def prepared():
    return make_noise_cohort()


def test_copies_that_are_wanted_and_missing_are_told(prepared):
    with pytest.raises(ConfigError, match="no copies were prepared"):
        train_run(prepared, make_split(prepared.cohort, SplitConfig()), CONFIG)


def test_a_network_learns_from_copies_and_is_judged_on_scans(prepared):
    split = make_split(prepared.cohort, SplitConfig())
    same = replace(prepared, copies=prepared.arrays[:, None])
    other = replace(prepared, copies=prepared.arrays[:, None] + np.float16(1))
    nonsense = other.copies.copy()
    nonsense[[*split.validation, *split.test]] = np.nan
    without = with_changes(CONFIG, {"augmentation.stranger_copies": 0}, "test")
    runs = [
        train_run(prepared, split, without),
        *(train_run(each, split, CONFIG) for each in (same, other)),
        train_run(replace(other, copies=nonsense), split, CONFIG),
    ]
    weights = [torch.cat([p.flatten() for p in run.model.parameters()]) for run in runs]
    assert torch.equal(weights[0], weights[1]), "a copy that is the scan changes nothing"
    assert not torch.equal(weights[1], weights[2])
    assert torch.equal(weights[2], weights[3]), "others' copies are not looked at"
    assert run_hash(same, split, CONFIG) != run_hash(other, split, CONFIG)
