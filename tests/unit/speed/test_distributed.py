"""Candidates on two processes learn what one process learns."""

import pytest
import torch
import torch.distributed as dist

from brainage.config import with_changes
from brainage.errors import ConfigError
from brainage.model.build import build_model
from brainage.training.processes import join_ranks, run_ranks
from brainage.training.trainer import Trainer
from pipelines.speed.benchmark import check_candidate
from pipelines.speed.distributed import build_trainer, measure
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import RunSettings, random_batch, resolve_config
from tests.small import make_config


def make_candidate(method, schedule, devices=2, **changes):
    return Candidate(name="a", method=method, schedule=schedule, devices=devices, changes=changes)


def make_settings():
    # No batch statistics: those of a part of a batch are not those of the batch.
    config = make_config("vit3d", method="bp", head_norm="layer")
    changes = {"training.optimizer": "sgd", "training.learning_rate": 0.05}
    return RunSettings(with_changes(config, changes), steps=2, warmup_steps=1)


def send_weights(rank, send, candidate, settings, rendezvous):
    join_ranks(rank, 2, rendezvous, 1, "cpu")
    config = resolve_config(candidate, settings)
    trainer = build_trainer(rank, candidate, config, torch.device("cpu"))
    trainer.model.train()
    for _ in range(2):
        trainer.train_step(random_batch(config, 0))
    send("weights", {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()})
    dist.barrier()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["ddp", "1f1b", "gpipe"])
def test_candidates_learn_what_backpropagation_learns(schedule, tmp_path):
    settings, candidate = make_settings(), make_candidate("bp", schedule)
    # Clipping by the norm of a part of the network is not clipping by that of the whole.
    weights = {}
    run_ranks(
        send_weights,
        (candidate, settings, f"file://{tmp_path / 'rendezvous'}"),
        2,
        lambda name, content: weights.update(content[0]),
    )
    config = resolve_config(candidate, settings)
    trainer = Trainer(build_model(config), config, names=[], shuffle=torch.Generator())
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.model.train()
    for _ in range(2):
        trainer.train_step(random_batch(config, 0))
    after = trainer.model.state_dict()
    assert weights.keys() == after.keys()
    for name, tensor in after.items():
        torch.testing.assert_close(torch.from_numpy(weights[name]), tensor, rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(before[name], after[name]) for name in after)


@pytest.mark.slow
def test_a_run_of_the_pipelined_schedule_times_every_step():
    candidate = make_candidate("lfnn_l", "pipelined", **{"learning.blocks": 2})
    assert check_candidate(candidate, make_settings())[1] == 2
    measured = measure(candidate, make_settings(), 0)
    assert len(measured.step_seconds) == 2 and min(measured.step_seconds) > 0
    assert measured.peak_memory_mb > 0


@pytest.mark.parametrize(
    ("method", "schedule", "devices", "rule"),
    [
        ("bp", "ddp", 3, "a batch of 4 cannot be shared out to 3 parts"),
        ("bp", "1f1b_m8", 2, "a batch of 4 cannot be shared out to 8 parts"),
        ("lfnn_l", "ddp", 2, "ddp is a schedule of bp"),
        ("bp", "pipelined", 2, "its blocks need each other"),
        ("lfnn_l", "streams", 1, "streams need a GPU"),
        ("lfnn_l", "pipelined", 9, "9 stages of a pipeline cannot share"),
        ("bp", "magic", 1, "unknown schedule 'magic'"),
    ],
)
def test_what_cannot_run_is_refused(method, schedule, devices, rule):
    with pytest.raises(ConfigError, match=rule):
        check_candidate(make_candidate(method, schedule, devices), make_settings())
