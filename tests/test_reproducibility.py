"""Same seed, same machine: same bits. Another number of threads: the stated tolerance."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from brainage.cohorts.splits import make_split
from brainage.config import Config, with_changes
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort, TrainedRun, train_run
from brainage.types import METHODS
from tests.small import make_config, make_noise_cohort

# Of docs/explanation/reproducibility.md.
TOLERANCE_YEARS = 0.01
PROGRESSIVE = ("lfnn_l", "predsim")


@pytest.fixture(scope="module")
def prepared() -> PreparedCohort:
    return make_noise_cohort()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train(prepared: PreparedCohort, config: Config, path: Path | None = None) -> TrainedRun:
    split = make_split(prepared.cohort, config.split)
    # What the process did before must not matter.
    torch.manual_seed(int(np.random.default_rng().integers(2**31)))
    return train_run(prepared, split, config, TrainOptions(output=path, device="cpu"))


def settings(method: str, schedule: str) -> Config:
    config = make_config("cnn3d_light", method=method, schedule=schedule, epochs=3)
    return with_changes(config, {"training.mixup_alpha": 0.4, "training.ema_decay": 0.9})


CASES = [(method, "sequential") for method in METHODS] + [
    (method, "progressive") for method in PROGRESSIVE
]


@pytest.mark.parametrize(("method", "schedule"), CASES)
def test_same_seed_gives_the_same_bits(method, schedule, prepared, tmp_path):
    config = settings(method, schedule)
    one, other = (train(prepared, config, tmp_path / str(n)) for n in range(2))
    states = zip(one.model.state_dict().items(), other.model.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in states)
    assert one.predictions.equals(other.predictions)
    losses = ([record.train_loss for record in run.history] for run in (one, other))
    assert next(losses) == next(losses)


# Two threads on a busy machine wait for each other: a second can become minutes.
@pytest.mark.slow
@pytest.mark.parametrize(("method", "schedule"), CASES)
def test_number_of_threads_changes_ages_by_less_than_the_tolerance(
    method, schedule, prepared, threads
):
    runs = []
    for number in (1, 2):
        torch.set_num_threads(number)
        runs.append(train(prepared, settings(method, schedule)).predictions)
    ages = [run["predicted_age_years"].to_numpy() for run in runs]
    assert np.abs(ages[0] - ages[1]).max() <= TOLERANCE_YEARS


def test_another_seed_gives_other_weights(prepared):
    config = settings("lfnn_l", "sequential")
    one, other = (train(prepared, with_changes(config, {"seed": seed})) for seed in (0, 1))
    assert one.history[-1].train_loss != other.history[-1].train_loss
