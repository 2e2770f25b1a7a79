import math

import pytest
import torch

from brainage.config import with_changes
from brainage.errors import (
    CheckpointError,
    DeviceMemoryError,
    NonFiniteLossError,
    TrainingError,
)
from brainage.model.build import build_model
from brainage.training.callbacks import Callback
from brainage.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from brainage.training.resources import (
    Waited,
    explain_memory_errors,
    peak_memory_mb,
    reset_peak_memory,
)
from brainage.training.schedules import Schedule
from brainage.training.trainer import Trainer
from brainage.workflows.train import LogEpochs
from tests.small import make_config, random_batch

IDS = [f"scan-{n}" for n in range(8)]


class Batches:
    """Loader over fixed tensors in fixed order."""

    def __init__(self, volumes, ages, size=4):
        self.volumes, self.ages, self.size = volumes, ages, size

    def __len__(self):
        return len(self.ages) // self.size

    def __iter__(self):
        for start in range(0, len(self.ages), self.size):
            index = torch.arange(start, start + self.size)
            yield {"inputs": self.volumes[index], "target": self.ages[index], "index": index}


def make_trainer(config=None, **more):
    config = config or make_config("cnn3d_light")
    return Trainer(build_model(config), config, names=IDS, shuffle=torch.Generator(), **more)


def make_batches(trainer):
    return Batches(*random_batch(trainer.state.config, samples=8))


def test_training_lowers_the_loss():
    config = with_changes(make_config("cnn3d_light", epochs=15), {"training.learning_rate": 0.01})
    trainer = make_trainer(config)
    history = trainer.fit(make_batches(trainer), make_batches(trainer)).history
    assert history[-1].train_loss < 0.5 * history[0].train_loss


@pytest.mark.parametrize("method", ["bp", "lfnn_l"])
def test_nan_input_stops_before_any_weight_moves_and_names_the_scans(method):
    trainer = make_trainer(make_config("cnn3d_light", method=method))
    batches = make_batches(trainer)
    batches.volumes[2] = math.nan
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(NonFiniteLossError, match=r"scan-0, scan-1, scan-2, scan-3\. .*No weight"):
        trainer.fit(batches, batches)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_a_late_block_that_overflows_holds_back_the_early_ones():
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model[2].head.weight.fill_(math.inf)
    before = [p.clone() for p in trainer.model[0].parameters()]
    with pytest.raises(NonFiniteLossError):
        trainer.fit(make_batches(trainer), make_batches(trainer))
    after = trainer.model[0].parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_early_stopping_watches_the_validation_scans():
    config = with_changes(
        make_config("cnn3d_light", epochs=30),
        {"training.patience_epochs": 2, "training.learning_rate": 1e-12},
    )
    trainer = make_trainer(config)
    train, validation = make_batches(trainer), make_batches(trainer)
    validation.ages = validation.ages + 1e-3 * torch.arange(8)
    result = trainer.fit(train, validation)
    best = min(record.val_score for record in result.history)
    assert len(result.history) == result.kept_epoch + 2 < 30
    assert result.history[result.kept_epoch - 1].val_score == best


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_model_ends_with_the_weights_that_were_asked_for(keep):
    config = with_changes(
        make_config("cnn3d_light", epochs=6), {"training.keep": keep, "training.learning_rate": 0.1}
    )
    trainer = make_trainer(config)
    batches = make_batches(trainer)
    result = trainer.fit(batches, batches)
    _, scores = trainer.schedule.validate(trainer.state, batches)
    assert scores[-1] == pytest.approx(result.history[result.kept_epoch - 1].val_score, rel=1e-6)
    assert keep == "best" or result.kept_epoch == 6


def test_learning_rate_warms_up_and_falls_to_zero():
    config = with_changes(make_config("cnn3d_light", epochs=10), {"training.warmup_epochs": 2})
    trainer = make_trainer(config)
    rates = []
    for step in range(100):
        trainer.set_learning_rate(1 + step // 10, step % 10, 10)
        rates.append(trainer.state.optimizers[-1].param_groups[0]["lr"])
    top = config.training.learning_rate
    assert rates[0] == pytest.approx(top / 20) and max(rates) == pytest.approx(top)
    assert rates.index(max(rates)) in (19, 20) and rates[-1] < 0.01 * top
    assert sorted(rates[20:], reverse=True) == rates[20:]


def test_greedy_keeps_no_epoch_before_its_output_has_learned(monkeypatch):
    trainer = make_trainer(make_config("cnn3d_light", method="greedy", epochs=7))
    blocks = len(trainer.model)

    def worse_each_epoch(self, state, loader):
        return 1.0, (float(len(state.history)),) * blocks

    monkeypatch.setattr(Schedule, "validate", worse_each_epoch)
    result = trainer.fit(make_batches(trainer), make_batches(trainer))
    assert result.kept_epoch == 1 + math.ceil(7 * (blocks - 1) / blocks)


def test_each_turn_of_greedy_warms_up_and_falls_to_zero():
    config = with_changes(
        make_config("cnn3d_light", method="greedy", epochs=7), {"training.warmup_epochs": 1}
    )
    trainer = make_trainer(config)
    rates = []
    for step in range(70):
        trainer.set_learning_rate(1 + step // 10, step % 10, 10)
        rates.append(trainer.state.optimizers[0].param_groups[0]["lr"])
    top = config.training.learning_rate
    assert [rates[step] for step in (0, 30, 50)] == pytest.approx([top / 10] * 3)
    assert max(rates[step] for step in (29, 49, 69)) < 0.05 * top


def test_gradients_are_clipped_for_each_block():
    config = with_changes(make_config("cnn3d_light"), {"training.max_gradient_norm": 1e-3})
    trainer = make_trainer(config)
    volumes, ages = random_batch(config)
    result = trainer.schedule.learn(trainer.state, volumes, ages)
    trainer.clip_gradients(result, {"index": torch.arange(4)})
    for block in trainer.model.blocks:
        norm = torch.cat([p.grad.flatten() for p in block.parameters()]).norm()
        assert norm == pytest.approx(1e-3, rel=1e-2)


def test_callbacks_see_every_step_and_epoch_and_the_end():
    calls = []

    class Listener(Callback):
        def on_fit_start(self, epochs, steps_per_epoch, done_epochs):
            calls.append(("start", epochs, steps_per_epoch, done_epochs))

        def on_step_end(self, epoch, loss):
            calls.append(("step", epoch))

        def on_epoch_end(self, record):
            calls.append(("epoch", record.epoch))

        def on_fit_end(self):
            calls.append("end")

    trainer = make_trainer(callbacks=[Listener()])
    trainer.fit(make_batches(trainer), make_batches(trainer))
    epochs = [[("step", n), ("step", n), ("epoch", n)] for n in (1, 2)]
    assert calls == [("start", 2, 2, 0), *epochs[0], *epochs[1], "end"]


def test_the_tracker_gets_the_epochs_before_a_resumed_run_too(tmp_path):
    class Tracked:
        def log_metrics(self, metrics, step):
            logged.append((step, metrics["train_loss"]))

    path, logged = tmp_path / "checkpoint.safetensors", []
    whole = make_trainer(checkpoint_path=path)
    history = whole.fit(make_batches(whole), make_batches(whole)).history
    again = make_trainer(checkpoint_path=path, callbacks=[LogEpochs(Tracked())])
    again.fit(make_batches(again), make_batches(again), resume=True)
    assert logged == [(record.epoch, record.train_loss) for record in history]


def test_a_record_holds_the_error_of_every_block():
    trainer = make_trainer()
    record = trainer.fit(make_batches(trainer), make_batches(trainer)).history[-1]
    assert len(record.block_val_scores) == 3
    assert record.block_val_scores[-1] == record.val_score
    assert "block_0_val_mae_years" in record.metrics()


def test_waiting_for_batches_is_timed_apart_from_work(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("brainage.training.resources.time.perf_counter", lambda: now[0])

    def items():
        for number in range(3):
            now[0] += 1.0
            yield number

    waited = Waited()
    for expected in (3.0, 3.0):  # the second epoch begins at 0 again
        for _ in waited.through(items()):
            now[0] += 10.0
        assert waited.seconds == expected


def test_the_record_says_how_long_batches_were_waited_for():
    trainer = make_trainer()
    record = trainer.fit(make_batches(trainer), make_batches(trainer)).history[-1]
    assert 0 < record.data_seconds < record.epoch_seconds
    assert record.row()["data_seconds"] == record.data_seconds


def test_blocks_without_heads_have_no_error():
    trainer = make_trainer(make_config("cnn3d_light", method="bp"))
    record = trainer.fit(make_batches(trainer), make_batches(trainer)).history[-1]
    assert math.isnan(record.block_val_scores[0])
    assert "block_0_val_mae_years" not in record.metrics()


def test_bfloat16_trains_near_float32():
    losses = []
    for precision in ("float32", "bfloat16"):
        config = with_changes(make_config("cnn3d_light"), {"training.precision": precision})
        trainer = make_trainer(config)
        losses.append(
            trainer.fit(make_batches(trainer), make_batches(trainer)).history[-1].train_loss
        )
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_weights_that_the_last_step_spoils_are_refused():
    trainer = make_trainer(with_changes(make_config("cnn3d_light"), {"training.epochs": 1}))

    def spoil(batch):
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(math.nan)
        return 1.0

    trainer.train_step = spoil
    with pytest.raises(NonFiniteLossError, match="validation loss after epoch 1 is not finite"):
        trainer.fit(make_batches(trainer), make_batches(trainer))


def test_a_lost_loader_process_is_one_line():
    trainer = make_trainer()

    class Lost:
        def __iter__(self):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

        def __len__(self):
            return 1

    with pytest.raises(TrainingError, match=r"loader_processes: a process that loads .* --resume"):
        trainer.fit(Lost(), make_batches(trainer))


def test_a_batch_of_one_sample_is_one_line():
    trainer = make_trainer()

    def spread(batch):
        raise ValueError("Expected more than 1 value per channel when training, got ...")

    trainer.train_step = spread
    with pytest.raises(TrainingError, match=r"batch_size: .* Train on two or more samples"):
        trainer.fit(make_batches(trainer), make_batches(trainer))


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(Checkpoint({"model.a": torch.ones(2)}, {"best_epoch": 1}, "one"), path)
    assert load_checkpoint(path, "one").state == {"best_epoch": 1}
    with pytest.raises(CheckpointError, match="other settings or other scans"):
        load_checkpoint(path, "two")


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, b"not a checkpoint at all"])
def test_damaged_checkpoint_is_refused(damage, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"damaged\. Delete it and use --resume"):
        load_checkpoint(path, "run")


def test_checkpoint_without_the_networks_weights_is_told_as_a_damaged_one(tmp_path):
    trainer = make_trainer()
    trainer.state.checkpoint_path = path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(Checkpoint({}, {"best_epoch": 1}, trainer.state.run_hash), path)
    with pytest.raises(CheckpointError, match=r"not hold this run\. Delete it and use --resume"):
        trainer.fit(make_batches(trainer), make_batches(trainer), resume=True)


def test_out_of_memory_says_which_settings_to_lower():
    with (
        pytest.raises(DeviceMemoryError, match=r"batch_size 8 .*Lower --batch-size to 4"),
        explain_memory_errors(8, (128, 128, 128)),
    ):
        torch.empty(2**60)


def test_other_runtime_errors_pass_through():
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        explain_memory_errors(8, (4, 4, 4)),
    ):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_peak_memory_sees_a_large_tensor():
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_mb(cpu)
    held = torch.ones(64 * 2**20 // 4)
    assert held.sum() > 0 and peak_memory_mb(cpu) > before + 50


@pytest.mark.parametrize("network", ["resnet3d", "vit3d"])
@pytest.mark.parametrize("method", ["bp", "lfnn_l"])
@pytest.mark.parametrize(
    "changes", [{"training.recompute": True}, {"training.memory_format": "channels_last"}]
)
def test_recomputing_and_the_order_in_memory_change_no_result(network, method, changes):
    trainers = []
    for more in ({}, changes):
        trainer = make_trainer(with_changes(make_config(network, method=method), more))
        batch = next(iter(make_batches(trainer)))
        trainer.schedule.learn(trainer.state, *trainer.state.load(batch))
        trainers.append(trainer)
    plain, changed = (trainer.model[0] for trainer in trainers)
    for name, value in plain.body.state_dict().items():
        if "num_batches" not in name:
            other = changed.body.state_dict()[name]
            assert torch.allclose(value, other, rtol=1e-4, atol=1e-6), name
    for one, other in zip(plain.body.parameters(), changed.body.parameters(), strict=True):
        scale = float(one.grad.abs().max())
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-3 * scale + 1e-5)
