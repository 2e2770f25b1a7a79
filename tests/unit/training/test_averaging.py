"""Averaged weights and mixed batches."""

import pytest
import torch

from brainage.config import with_changes
from brainage.loading.mixing import mix_batch
from brainage.model.build import build_model
from brainage.training.trainer import Trainer
from tests.small import make_config, random_batch


def make_trainer(**changes: object) -> Trainer:
    config = with_changes(make_config("cnn3d_light"), changes)
    names = [str(n) for n in range(8)]
    return Trainer(build_model(config), config, names=names, shuffle=torch.Generator())


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    volumes, ages = random_batch(make_config("cnn3d_light"), 8)
    return [{"inputs": volumes, "target": ages, "index": torch.arange(8)}] * count


def test_averaged_weights_are_those_of_the_formula_and_are_kept():
    decay = 0.8
    trainer = make_trainer(**{"training.ema_decay": decay, "training.keep": "last"})
    name, expected = "blocks.0.body.0.0.weight", None
    for batch in batches(4):
        trainer.train_step(batch)
        current = trainer.model.state_dict()[name].clone()
        expected = current if expected is None else decay * expected + (1 - decay) * current
    assert torch.allclose(trainer.state.judged.state_dict()[name], expected, atol=1e-6)
    assert not torch.equal(expected, trainer.model.state_dict()[name])
    trainer.state.finish()
    assert torch.allclose(trainer.model.state_dict()[name], expected, atol=1e-6)


def test_best_weights_are_the_averaged_ones():
    trainer = make_trainer(**{"training.ema_decay": 0.9, "training.epochs": 1})
    trainer.fit(batches(3), batches(1))
    kept, judged = trainer.model.state_dict(), trainer.state.judged.state_dict()
    assert all(torch.equal(kept[name], judged[name]) for name in kept)


def test_without_decay_the_network_itself_is_judged():
    trainer = make_trainer()
    assert trainer.state.averaged is None and trainer.state.judged is trainer.model


def test_mixed_scan_and_age_have_one_share():
    volumes = torch.arange(6.0)[:, None, None, None, None].expand(6, 1, 2, 2, 2)
    torch.manual_seed(0)
    mixed, ages = mix_batch(volumes, 10 * torch.arange(6.0), 0.4)
    assert torch.allclose(10 * mixed[:, 0, 0, 0, 0], ages)
    assert not torch.allclose(ages, 10 * torch.arange(6.0)) and ages.sum() == pytest.approx(150)


def test_alpha_zero_draws_nothing_and_changes_nothing():
    volumes, ages = random_batch(make_config("cnn3d_light"))
    state = torch.random.get_rng_state()
    same_volumes, same_ages = mix_batch(volumes, ages, 0.0)
    assert same_volumes is volumes and same_ages is ages
    assert torch.equal(state, torch.random.get_rng_state())
