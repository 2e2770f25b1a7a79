"""The pipelined schedule on two processes gives what the sequential one gives, to the bit."""

import math
import multiprocessing
import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from brainage.config import with_changes
from brainage.errors import ConfigError, NonFiniteLossError, TrainingError
from brainage.lfnn.parallel.transport import place_ranks
from brainage.model.build import block_count, build_model, group_blocks
from brainage.training import pipelined, processes
from brainage.training.callbacks import Callback
from brainage.training.checkpoint import load_checkpoint
from brainage.training.options import TrainOptions
from brainage.training.processes import (
    FitTask,
    end_with_parent,
    fit_on_processes,
    run_ranks,
)
from brainage.training.state import TrainingState
from brainage.training.trainer import Trainer
from tests.small import make_config, make_image_config, random_batch

SAMPLES = 11


class Batches:
    """Shuffled batches of fixed tensors with noise from torch's own generator."""

    def __init__(self, inputs, target, size, shuffle=None):
        self.inputs, self.target, self.size, self.shuffle = inputs, target, size, shuffle

    def __len__(self):
        return math.ceil(len(self.target) / self.size)

    def __iter__(self):
        order = torch.arange(len(self.target))
        if self.shuffle is not None:
            order = torch.randperm(len(self.target), generator=self.shuffle)
        for index in order.split(self.size):
            inputs = self.inputs[index]
            if self.shuffle is not None:
                inputs = inputs + 0.1 * torch.randn(inputs.shape)
            yield {"inputs": inputs, "target": self.target[index], "index": index}


def build_loaders(inputs, target, size, shuffle, reads_inputs):
    if not reads_inputs:
        inputs = torch.zeros(len(target), 1)
    return Batches(inputs, target, size, shuffle), Batches(inputs, target, size)


def make_task(config, tmp_path, name="pipelined", **more):
    inputs, target = random_batch(config, SAMPLES)
    loaders = partial(build_loaders, inputs, target, config.training.batch_size)
    names = tuple(f"scan-{n}" for n in range(SAMPLES))
    options = TrainOptions(output=tmp_path / name, device="cpu", threads=1, **more)
    return FitTask(config, names, loaders, "hash", options)


def fit_here(task):
    """The sequential schedule in this process."""
    shuffle = torch.Generator()
    trainer = Trainer(
        build_model(task.config),
        task.config,
        names=task.names,
        shuffle=shuffle,
        checkpoint_path=task.options.checkpoint_path,
        run_hash=task.run_hash,
    )
    return trainer.model, trainer.fit(*task.build_loaders(shuffle, True))


def read_checkpoint(task):
    return load_checkpoint(task.options.checkpoint_path, "hash")


def assert_same_checkpoints(first, second):
    first, second = read_checkpoint(first), read_checkpoint(second)
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    for a, b in zip(first.state["history"], second.state["history"], strict=True):
        for key in ("train_loss", "val_loss", "val_score", "block_val_scores"):
            assert a[key] == b[key], key
    assert first.state["best_epoch"] == second.state["best_epoch"]


CASES = {
    # 17 epochs of 3 batches (4, 4, 3 samples): 51 steps; dropout, mixup, averaged weights
    "usc_cnn3d": (
        make_config,
        {"network.arguments": {"channels": [2, 3, 4], "kernel_size": 2, "dropout": 0.3}},
        {"training.mixup_alpha": 0.4, "training.ema_decay": 0.9, "learning.head_dropout": 0.2},
    ),
    "mlp": (make_image_config, {}, {"training.batch_size": 4, "training.keep": "last"}),
}


@pytest.mark.parametrize("network", ["usc_cnn3d", pytest.param("mlp", marks=pytest.mark.slow)])
def test_two_processes_give_the_bits_of_one_after_50_steps(network, tmp_path):
    make, *changes = CASES[network]
    config = make(network, epochs=17)
    for change in changes:
        config = with_changes(config, change)
    task = make_task(config, tmp_path, "sequential")
    model, result = fit_here(task)
    piped_task = make_task(config, tmp_path, processes=2)
    piped, piped_result = fit_on_processes(piped_task)
    assert_same_checkpoints(task, piped_task)
    assert result.kept_epoch == piped_result.kept_epoch
    for (name, a), b in zip(model.state_dict().items(), piped.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_without_a_validation_part_there_is_no_score(monkeypatch):
    monkeypatch.setattr(pipelined.dist, "all_reduce", lambda values: None)
    config = make_image_config("mlp")
    model, [place] = build_model(config), place_ranks([range(block_count(config))], 1)
    schedule = pipelined.Pipelined(model, config, place, [None])
    state = TrainingState(model, config, names=(), shuffle=torch.Generator())
    loss, scores = schedule.validate(state, [])
    assert math.isnan(loss) and len(scores) == len(model) and all(map(math.isnan, scores))


class KillOne(Callback):
    """Kill a process of the pipeline after the second epoch."""

    def on_epoch_end(self, record):
        if record.epoch == 2:
            max(multiprocessing.active_children(), key=lambda child: child.pid).kill()


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_run_goes_on_to_the_same_bits(tmp_path):
    config = with_changes(make_config("usc_cnn3d", epochs=400), {"training.schedule": "constant"})
    task = make_task(config, tmp_path, processes=2)
    with pytest.raises(TrainingError, match=r"process \d: was killed \(SIGKILL\).*--resume"):
        fit_on_processes(task, [KillOne()])
    assert multiprocessing.active_children() == []
    done = len(read_checkpoint(task).state["history"])
    assert 2 <= done < 400
    config = with_changes(config, {"training.epochs": done + 2})
    straight = make_task(config, tmp_path, "straight")
    fit_here(straight)
    fit_on_processes(make_task(config, tmp_path, resume=True, processes=2))
    assert_same_checkpoints(straight, task)


@pytest.mark.parametrize("code", [-signal.SIGTERM, -signal.SIGKILL])
def test_the_rank_that_was_killed_is_named_not_those_that_were_ended_after_it(code, monkeypatch):
    def join(**_):
        raise ProcessExitedException("lost", error_index=1, error_pid=1, exit_code=code)

    ranks = [SimpleNamespace(exitcode=c, is_alive=lambda: False) for c in (-signal.SIGTERM, code)]
    children = SimpleNamespace(processes=ranks, join=join)
    monkeypatch.setattr(processes, "start_processes", lambda *_, **__: children)
    with pytest.raises(TrainingError, match=f"process 1: was killed .{signal.Signals(-code).name}"):
        run_ranks(print, (), 2, print)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_samples(tmp_path):
    config = make_config("usc_cnn3d")
    task = make_task(config, tmp_path, processes=2)
    task.build_loaders.args[0].fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match=r"not finite.*scan-") as caught:
        fit_on_processes(task)
    assert "No weight" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_replicas_share_each_batch_and_learn_what_one_process_learns(processes, tmp_path):
    # Normalisation over layers: batch statistics of a half batch are not those of the batch.
    config = make_config("vit3d", epochs=3, leader_fraction=1.0, head_norm="layer")
    config = with_changes(config, {"training.optimizer": "sgd", "training.learning_rate": 1e-3})
    task = make_task(config, tmp_path, "sequential")
    model, result = fit_here(task)
    piped_task = make_task(config, tmp_path, processes=processes, replicas=2)
    piped, piped_result = fit_on_processes(piped_task)
    for record, other in zip(result.history, piped_result.history, strict=True):
        assert record.train_loss == pytest.approx(other.train_loss, rel=1e-3)
    for (name, a), b in zip(model.state_dict().items(), piped.state_dict().values(), strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-2, atol=1e-3, msg=name)


def test_blocks_are_dealt_out_to_stages_by_cost():
    config = make_config("usc_cnn3d")
    groups = group_blocks(config, 2)
    assert [index for group in groups for index in group] == [0, 1, 2]
    with pytest.raises(ConfigError, match="4 stages of a pipeline cannot share 3 blocks"):
        group_blocks(config, 4)


@pytest.mark.parametrize(
    ("learning", "options", "rule"),
    [
        ({"method": "bp"}, {"processes": 2}, "bp cannot run on several processes"),
        ({}, {"processes": 3, "replicas": 2}, "2 replicas do not divide 3 processes"),
        ({}, {"processes": 99}, "99 stages of a pipeline cannot share"),
        ({"schedule": "progressive"}, {"processes": 2}, "progressive schedule trains one block"),
    ],
)
def test_what_cannot_be_pipelined_is_refused(learning, options, rule, tmp_path):
    with pytest.raises(ConfigError, match=rule):
        fit_on_processes(make_task(make_config("usc_cnn3d", **learning), tmp_path, **options))


def _outlive(told):
    end_with_parent()
    told.send("ready")
    time.sleep(600)


def _start_and_be_killed(told):
    context = multiprocessing.get_context("fork")
    context.Process(target=_outlive, args=(told,)).start()
    told.close()
    time.sleep(600)


def test_a_rank_ends_when_its_parent_is_killed():
    context = multiprocessing.get_context("fork")
    heard, told = context.Pipe(duplex=False)
    parent = context.Process(target=_start_and_be_killed, args=(told,))
    parent.start()
    told.close()
    assert heard.recv() == "ready"
    os.kill(parent.pid, signal.SIGKILL)
    assert heard.poll(60)
    with pytest.raises(EOFError):  # nobody holds the other end
        heard.recv()
    parent.join()
