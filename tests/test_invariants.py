"""The science: what must hold for the numbers of this project to mean anything."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.cohorts.cohort import Cohort, read_cohort
from brainage.cohorts.splits import make_folds, make_split
from brainage.config import Config, SplitConfig, build_config, with_changes
from brainage.errors import ShapeError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import follower_loss, leader_count, local_loss, select_leaders
from brainage.lfnn.rules import METHOD_RULES, StepSettings
from brainage.lfnn.targets import Ages
from brainage.model.build import build_model, build_target
from brainage.prepared.arrays import prepare_cohort, prepare_scan
from brainage.prepared.source import ScanSource
from brainage.scans.volume import load_volume
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort, train_run
from tests.phantoms import prepare_phantom
from tests.small import NETWORKS, make_config, random_batch


def step(config: Config, stack: BlockStack, progress: float = 0.0) -> tuple[torch.Tensor, ...]:
    inputs, target = random_batch(config)
    rule_settings = StepSettings(
        build_target(config.target), config.learning.leader_fraction, progress=progress
    )
    return METHOD_RULES[config.learning.method].step(stack, inputs, target, rule_settings).losses


@pytest.mark.parametrize(
    "method", [name for name, rule in METHOD_RULES.items() if not rule.is_local]
)
def test_gradients_cross_blocks_where_the_method_says_so(method):
    config = make_config("cnn3d_light", method=method)
    plain, changed = build_model(config), build_model(config)
    with torch.no_grad():
        changed[len(changed) - 1].head.bias.add_(1.0)
    for stack in (plain, changed):
        step(config, stack)
    first = zip(plain[0].body.parameters(), changed[0].body.parameters(), strict=True)
    assert not all(torch.equal(a.grad, b.grad) for a, b in first)


@given(workers=st.integers(1, 64), percent=st.integers(1, 100), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_leaders_are_the_ceiling_of_delta_w_and_have_the_smallest_losses(workers, percent, seed):
    losses = torch.rand(3, workers, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    leadership = select_leaders(losses, percent / 100, "per_sample")
    expected = -(-percent * workers // 100)
    assert leader_count(workers, percent / 100) == expected
    for row, mask in zip(losses.tolist(), leadership.leader_mask.tolist(), strict=True):
        ranked = sorted(range(workers), key=lambda worker: (row[worker], worker))
        assert [w for w in range(workers) if mask[w]] == sorted(ranked[:expected])


def test_delta_one_has_no_follower_loss():
    outputs = torch.randn(4, 8, 11)
    loss = local_loss(outputs, torch.full((4,), 40.0), Ages(20, 60, 11), leader_fraction=1.0)
    assert loss.follower == 0 and loss.total == loss.leader


def test_follower_target_carries_no_gradient():
    outputs = torch.randn(4, 8, 11, requires_grad=True)
    losses = Ages(20, 60, 11).loss(outputs, torch.full((4,), 40.0))
    leadership = select_leaders(losses, 0.5)
    follower_loss(outputs, leadership).backward()
    assert outputs.grad[:, int(leadership.best[0])].abs().sum() == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_one_block_one_worker_delta_one_is_backpropagation(network):
    changes = {"blocks": 1, "workers_per_block": 1, "leader_fraction": 1.0}
    gradients = []
    for method in ("bp", "lfnn_l"):
        config = make_config(network, method=method, **changes)
        stack = build_model(config)
        step(config, stack)
        gradients.append([p.grad for p in stack.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_ages_as_a_column_are_refused():
    config = make_config("cnn3d_light")
    volumes, ages = random_batch(config)
    rule_settings = StepSettings(build_target(config.target))
    with pytest.raises(ShapeError, match=r"got \(4, 1\)"):
        METHOD_RULES["lfnn_l"].step(build_model(config), volumes, ages[:, None], rule_settings)


class KillAfter(Callback):
    """Stop training as Ctrl-C does."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_epoch_end(self, record: EpochRecord) -> None:
        if record.epoch == self._epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def prepared(phantom_cohort, scan_cache) -> PreparedCohort:
    config = make_config("cnn3d_light")
    cohort = read_cohort(phantom_cohort).cohort
    scans = prepare_cohort(
        list(cohort.table["path"]),
        list(cohort.table["scan_id"]),
        config.preprocessing,
        scan_cache,
    )
    return PreparedCohort(cohort.select(scans.kept), scans.arrays, synthetic=True)


@pytest.mark.parametrize("extras", [{}, {"training.ema_decay": 0.9, "training.mixup_alpha": 0.4}])
@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_training_four_epochs_is_training_two_and_resuming_two(method, extras, prepared, tmp_path):
    config = with_changes(make_config("cnn3d_light", method=method, epochs=4), extras)
    split = make_split(prepared.cohort, config.split)
    options = TrainOptions(device="cpu")
    whole = train_run(prepared, split, config, options)
    kept = replace(options, output=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_run(prepared, split, config, kept, [KillAfter(2)])
    torch.manual_seed(99)  # whatever the process did in between must not matter
    resumed = train_run(prepared, split, config, replace(kept, resume=True))
    weights = zip(whole.model.state_dict().items(), resumed.model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in weights)
    assert whole.predictions.equals(resumed.predictions)
    assert [r.train_loss for r in whole.history] == [r.train_loss for r in resumed.history]


def random_cohort(rng: np.random.Generator) -> Cohort:
    import pandas as pd

    subjects = rng.integers(6, 60)
    owner = np.concatenate([np.arange(subjects), rng.integers(0, subjects, rng.integers(0, 40))])
    rng.shuffle(owner)
    table = pd.DataFrame(
        {
            "scan_id": [f"scan{n}" for n in range(len(owner))],
            "subject_id": [f"sub{n}" for n in owner],
            "session_id": "",
            "age_years": rng.uniform(5, 95, len(owner)),
            "sex": "",
            "site": rng.choice(["a", "b"], len(owner)),
            "path": "",
        }
    )
    return Cohort(table, "random")


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)  # more of them: unit/cohorts/test_splits.py
def test_no_subject_is_in_two_parts_of_a_split(seed):
    cohort = random_cohort(np.random.default_rng(seed))
    subjects = cohort.table["subject_id"].to_numpy()
    splits = [make_split(cohort, SplitConfig(seed=seed % 7)), *make_folds(cohort, 3, SplitConfig())]
    for split in splits:
        parts = [set(subjects[part]) for part in (split.train, split.validation, split.test)]
        assert not any(a & b for a, b in itertools.combinations(parts, 2))
        assert sum(len(part) for part in (split.train, split.validation, split.test)) == len(cohort)


def test_all_48_orientations_of_a_scan_prepare_to_the_same_array(phantom_cohort, tmp_path):
    config = make_config("cnn3d_light")
    path = read_cohort(phantom_cohort).cohort.table["path"].iloc[0]
    source, expected = nibabel.load(path), load_volume(path)
    array = prepare_scan(ScanSource(path), config.preprocessing).array
    turned = tmp_path / "turned.nii"
    ways = itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    for number, (axes, flips) in enumerate(ways):
        orientation = np.array(list(zip(axes, flips, strict=True)), dtype=float)
        source.as_reoriented(orientation).to_filename(turned)
        volume = load_volume(turned)
        # Equal voxels in equal places are prepared alike; some are, to see that it is so.
        assert np.array_equal(volume.data, expected.data)
        assert np.array_equal(volume.affine, expected.affine)
        if number % 12 == 11:
            again = prepare_scan(ScanSource(str(turned)), config.preprocessing).array
            assert np.array_equal(again, array)


@pytest.mark.parametrize("method", [pytest.param("bp", marks=pytest.mark.slow), "lfnn_l"])
def test_training_on_phantoms_beats_the_constant_predictor_by_half(method, tmp_path):
    from brainage.cohorts.phantom import write_phantom_cohort
    from brainage.config import load_preset
    from brainage.workflows.train import fit_baselines

    changes = {"learning.method": method, "training.epochs": 10}
    config = with_changes(load_preset("phantom"), changes)
    table = write_phantom_cohort(tmp_path, subjects=80, seed=1, spacing_mm=6)
    cohort = read_cohort(table).cohort
    arrays = [prepare_phantom(path, config.preprocessing).array for path in cohort.table["path"]]
    ready = PreparedCohort(cohort, np.stack(arrays), synthetic=True)
    split = make_split(cohort, config.split)
    runs = [with_changes(config, {"seed": seed}) for seed in range(2)]
    tables = [train_run(ready, split, run, TrainOptions(device="cpu")).predictions for run in runs]
    constant = fit_baselines(ready, split, config)["constant"]
    errors = [(table["predicted_age_years"] - table["age_years"]).abs().mean() for table in tables]
    # Of two seeds, since one of them may have bad luck.
    assert np.mean(errors) < 0.5 * np.abs(constant - tables[0]["age_years"]).mean()


def test_killed_training_resumes_to_the_same_weights(phantom_cohort, tmp_path):
    """A real kill −9 of the real command, in the middle of an epoch."""

    def command(output: Path, *more: str) -> list[str]:
        return [
            "train", "--cohort", str(phantom_cohort), "--preset", "phantom", "--epochs", "4",
            "--baselines", "constant", "--check-leakage", "none",
            "--tracking-uri", "off", "--output", str(output), *more,
        ]  # fmt: skip

    assert CliRunner().invoke(app, command(tmp_path / "whole")).exit_code == 0
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "brainage.cli.main", *command(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    checkpoint = killed / "training" / "checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (killed / "manifest.json").exists()
    assert CliRunner().invoke(app, command(killed, "--resume")).exit_code == 0
    weights = [
        (folder / "model.safetensors").read_bytes() for folder in (tmp_path / "whole", killed)
    ]
    assert weights[0] == weights[1]


def test_every_preset_builds_a_network_that_answers():
    from brainage.config import load_preset, preset_names

    assert preset_names()
    for name in preset_names():
        config = load_preset(name)
        content = config.model_dump()
        content["target"] |= {"low_years": 10.0, "high_years": 90.0}
        stack = build_model(build_config(content, name))
        assert len(stack) >= 1
