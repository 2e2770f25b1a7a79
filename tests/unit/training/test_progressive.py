"""Blocks in turn on stored features, and blocks that are frozen or rest."""

import math

import numpy as np
import pytest
import torch

from brainage.config import with_changes
from brainage.errors import ConfigError, TrainingError
from brainage.model.build import build_model
from brainage.training.callbacks import Callback
from brainage.training.features import fill_store
from brainage.training.progressive import Progressive
from brainage.training.schedules import Schedule
from brainage.training.trainer import Trainer
from tests.small import make_config, random_batch

IDS = [f"scan-{n}" for n in range(10)]


class Noisy:
    """All scans in order with new noise at every pass, as augmentation gives it."""

    def __init__(self, volumes, ages, noise=0.1):
        self.volumes, self.ages, self.noise, self.passes = volumes, ages, noise, 0

    def __len__(self):
        return 3

    def __iter__(self):
        self.passes += 1
        for index in torch.arange(len(self.ages)).split(4):
            volumes = self.volumes[index]
            volumes = volumes + self.noise * torch.randn_like(volumes)
            yield {"inputs": volumes, "target": self.ages[index], "index": index}


def settings(**changes):
    learning = {"schedule": "progressive", "freeze_after": [2, 2], "stored_variants": 2}
    config = make_config("cnn3d_light", epochs=6, **learning)
    return with_changes(config, changes)


def make(config, **more):
    volumes, ages = random_batch(config, 10)
    loader = Noisy(volumes, ages)
    model = build_model(config)
    schedule = Progressive(config, len(model), loader)
    trainer = Trainer(
        model, config, schedule=schedule, names=IDS, shuffle=torch.Generator(), **more
    )
    return trainer, loader, Noisy(volumes, ages, noise=0.0)


def test_only_the_block_whose_turn_it_is_changes():
    trainer, loader, validation = make(settings(**{"training.keep": "last"}))
    changed = []

    class Watch(Callback):
        def on_fit_start(self, *_):
            self.before = [p.clone() for p in trainer.model.parameters()]

        def on_epoch_end(self, record):
            after = [p.clone() for p in trainer.model.parameters()]
            moved = [not torch.equal(p, q) for p, q in zip(self.before, after, strict=True)]
            flat = iter(moved)
            changed.append(
                [sum(next(flat) for _ in block.parameters()) > 0 for block in trainer.model.blocks]
            )
            self.before = after

    trainer.callbacks = [Watch()]
    history = trainer.fit(loader, validation).history
    assert [row.index(True) for row in changed] == [0, 0, 1, 1, 2, 2]
    assert all(sum(row) == 1 for row in changed)
    assert [math.isnan(r.val_score) for r in history] == [True] * 4 + [False] * 2
    # Two epochs of the first block, two stored variants; then no scan is looked at any more.
    assert loader.passes == 4


def test_what_is_validated_is_what_the_model_predicts():
    trainer, loader, validation = make(settings(**{"training.keep": "last"}))
    history = trainer.fit(loader, validation).history
    _, scores = Schedule().validate(trainer.state, validation)
    assert scores[-1] == pytest.approx(history[-1].val_score, rel=1e-3)


def test_stored_features_are_those_of_the_frozen_block():
    trainer, loader, validation = make(settings())
    loader.noise = 0.0
    trainer.fit(loader, validation)
    store = trainer.schedule.advance(trainer.state, 2)
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model[1].body(trainer.model[0].body(validation.volumes))
    found = store.gather(torch.zeros(10, dtype=torch.long), torch.arange(10))
    assert torch.allclose(found["inputs"], expected, rtol=5e-3, atol=5e-3)
    assert torch.equal(found["target"], validation.ages)


def test_a_stalled_block_ends_its_turn_early():
    config = settings(
        **{
            "learning.freeze_after": [8, 2],
            "training.epochs": 12,
            "learning.patience_epochs": 1,
            "learning.min_improvement": 0.9,
        }
    )
    trainer, loader, validation = make(config)
    history = trainer.fit(loader, validation).history
    first = [math.isfinite(record.block_val_scores[0]) for record in history]
    assert first.count(True) == 2 + 4  # one epoch, one without improvement, four to anneal
    assert len(history) < 12


@pytest.mark.parametrize(("keep", "ema_decay"), [("best", None), ("last", 0.5)])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
def test_a_killed_run_goes_on_to_the_same_bits(keep, ema_decay, stop_after, tmp_path):
    config = settings(**{"training.keep": keep, "training.ema_decay": ema_decay})

    class KilledError(Exception):
        pass

    class Kill(Callback):
        def on_epoch_end(self, record):
            if record.epoch == stop_after:
                raise KilledError

    whole, loader, validation = make(config)
    expected = whole.fit(loader, validation)
    path = tmp_path / "checkpoint.safetensors"
    killed, loader, validation = make(config, checkpoint_path=path, callbacks=[Kill()])
    with pytest.raises(KilledError):
        killed.fit(loader, validation)
    resumed, loader, validation = make(config, checkpoint_path=path)
    found = resumed.fit(loader, validation, resume=True)
    assert [r.train_loss for r in found.history] == [r.train_loss for r in expected.history]
    assert found.kept_epoch == expected.kept_epoch
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"learning.method": "bp", "learning.freeze_after": None}, ConfigError, "no block of it"),
        ({"learning.update_every": [2, 1]}, ConfigError, "sequential schedule"),
        ({"training.schedule": "constant"}, ConfigError, r"training\.schedule: .* sequential"),
        ({"training.patience_epochs": 2}, TrainingError, r"learning\.patience_epochs"),
        ({"training.epochs": 4}, TrainingError, "2 hidden blocks"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make(settings(**changes))


def test_a_large_store_is_mapped_and_leaves_no_file(tmp_path):
    batches = [{"inputs": torch.ones(3, 2), "target": torch.arange(3.0), "index": torch.arange(3)}]
    store = fill_store(
        lambda variant: batches,
        lambda inputs: 2 * inputs,
        variants=2,
        scans=3,
        feature_shape=(2,),
        folder=tmp_path,
        memory_bound_bytes=1,
    )
    assert isinstance(store.features, np.memmap) and not list(tmp_path.iterdir())
    assert (store.features == 2).all()


@pytest.mark.parametrize(
    ("value", "index", "message"),
    [
        (1e6, [0, 1], "half precision"),
        (-1e6, [0, 1], "half precision"),
        (math.nan, [0, 1], "half precision"),
        (1.0, [0, 0], "lacks 1"),
    ],
)
def test_features_that_do_not_fit_or_are_missing_are_refused(value, index, message):
    index = torch.tensor(index)
    batch = {"inputs": torch.full((2, 1), value), "target": torch.zeros(2), "index": index}
    with pytest.raises(TrainingError, match=message):
        fill_store(lambda variant: [batch], lambda x: x, variants=1, scans=2, feature_shape=(1,))


def sequential(**changes):
    config = with_changes(make_config("cnn3d_light", epochs=3), changes)
    volumes, ages = random_batch(config, 10)
    trainer = Trainer(build_model(config), config, names=IDS, shuffle=torch.Generator())
    return trainer, Noisy(volumes, ages, 0.0)


def test_freeze_after_holds_a_block_and_its_statistics():
    trainer, loader = sequential(**{"learning.freeze_after": [1, 2], "training.keep": "last"})
    states = []

    class Watch(Callback):
        def on_epoch_end(self, record):
            states.append({k: v.clone() for k, v in trainer.model.state_dict().items()})

    trainer.callbacks = [Watch()]
    trainer.fit(loader, loader)

    def moved(block, epoch):
        names = [name for name in states[0] if name.startswith(f"blocks.{block}.")]
        return any(not torch.equal(states[epoch - 1][n], states[epoch][n]) for n in names)

    assert [moved(0, 1), moved(0, 2)] == [False, False]
    assert [moved(1, 1), moved(1, 2)] == [True, False]
    assert [moved(2, 1), moved(2, 2)] == [True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning.freeze_after": [2]}, "need 2 numbers"),
        ({"learning.update_every": [2, 2, 2]}, "need 2 numbers"),
        ({"learning.freeze_after": [3, 2]}, "before the one"),
        ({"learning.freeze_after": [1, 2], "learning.method": "bp"}, "do not learn alone"),
    ],
)
def test_rests_that_do_not_fit_are_refused(changes, message):
    trainer, loader = sequential(**changes)
    with pytest.raises(ConfigError, match=message):
        trainer.fit(loader, loader)
