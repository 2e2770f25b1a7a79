"""Rivals on two processes learn what one process learns."""

import pytest
import torch
import torch.distributed as dist
from pipelines.speed.entrants import Spec, Track
from pipelines.speed.lap import random_batch

from brainage.config import with_changes
from brainage.errors import ConfigError
from brainage.model.build import build_model
from brainage.training.processes import join_ranks, run_ranks
from brainage.training.trainer import Trainer
from pipelines.speed.distributed import build_entrant, build_trainer, config_of
from tests.small import make_config


def make_track(**more):
    # No batch statistics: those of a part of a batch are not those of the batch.
    config = make_config("vit3d", method="bp", head_norm="layer")
    changes = {"training.optimizer": "sgd", "training.learning_rate": 0.05}
    return Track(with_changes(config, changes), steps=2, warmup_steps=1, **more)


def send_weights(rank, send, spec, track, rendezvous):
    join_ranks(rank, 2, rendezvous, 1, "cpu")
    config = config_of(spec, track)
    trainer = build_trainer(rank, spec, config, torch.device("cpu"))
    trainer.model.train()
    for _ in range(2):
        trainer.train_step(random_batch(config, 0))
    send("weights", {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()})
    dist.barrier()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["ddp", "1f1b", "gpipe"])
def test_rivals_learn_what_backpropagation_learns(schedule, tmp_path):
    track, spec = make_track(), Spec(schedule, "bp", schedule, devices=2)
    # Clipping by the norm of a part of the network is not clipping by that of the whole.
    weights = {}
    run_ranks(
        send_weights,
        (spec, track, f"file://{tmp_path / 'rendezvous'}"),
        2,
        lambda word, content: weights.update(content[0]),
    )
    config = config_of(spec, track)
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
def test_a_lap_of_the_pipelined_schedule_times_every_step():
    spec = Spec("lfnn_l", "lfnn_l", "pipelined", devices=2, changes={"learning.blocks": 2})
    entrant = build_entrant(spec, make_track())
    lap = entrant.run_lap(0)
    assert len(lap.step_seconds) == 2 and min(lap.step_seconds) > 0
    assert entrant.blocks == 2 and lap.peak_memory_mb > 0


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (Spec("a", "bp", "ddp", 3), "a batch of 4 cannot be shared out to 3 parts"),
        (Spec("a", "bp", "1f1b_m8", 2), "a batch of 4 cannot be shared out to 8 parts"),
        (Spec("a", "lfnn_l", "ddp", 2), "ddp is a schedule of bp"),
        (Spec("a", "bp", "pipelined", 2), "its blocks need each other"),
        (Spec("a", "lfnn_l", "streams", 1), "streams need a GPU"),
        (Spec("a", "lfnn_l", "pipelined", 9), "9 stages of a pipeline cannot share"),
    ],
)
def test_what_cannot_race_is_refused(spec, rule):
    with pytest.raises(ConfigError, match=rule):
        build_entrant(spec, make_track())
