"""Training on images with the shared trainer."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from brainage.config import Config, with_changes
from brainage.errors import BundleError, ConfigError, NonFiniteLossError, TrainingError
from brainage.images.sets import DATASETS, DatasetFacts
from brainage.images.sources import ArrayImages, ImageData
from brainage.inference.predict import predict_scans, scans_table
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.rules import METHOD_RULES
from brainage.loading.images import build_image_loader
from brainage.model.bundle import Bundle, load_bundle, save_bundle
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.images import TrainedImages, predict_classes, train_images
from brainage.training.options import TrainOptions
from brainage.training.schedules import stretch_rate
from brainage.training.state import build_optimizer
from tests.small import make_image_config

SHAPE = (2, 16, 16)


def make_part(count: int, seed: int) -> ArrayImages:
    """Three classes: noise that is brighter at the top, in the middle or at the bottom."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 100, (count, *SHAPE))
    for image, label in zip(images, labels, strict=True):
        image[:, 5 * label : 5 * label + 5] += 120
    return ArrayImages(images.astype(np.uint8), labels)


@pytest.fixture
def data(monkeypatch) -> ImageData:
    parts = ImageData(make_part(120, 0), make_part(60, 1))
    facts = DatasetFacts(lambda *_: parts, 3, SHAPE, (0.35, 0.35), (0.25, 0.25), 1, 0.5)
    monkeypatch.setitem(DATASETS, "bands", facts)
    return parts


def config_of(method: str = "lfnn_l", network: str = "mlp", **changes) -> Config:
    training = {"epochs": 6, "learning_rate": 0.01, **changes.pop("training", {})}
    images = {"dataset": "bands", **changes.pop("images", {})}
    return make_image_config(network, images=images, training=training, method=method, **changes)


def train(data: ImageData, config: Config, callbacks=(), **more) -> TrainedImages:
    return train_images(data, config, TrainOptions(device="cpu", **more), callbacks)


@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_every_method_learns_to_tell_classes_apart(data, method):
    trained = train(data, config_of(method))
    assert trained.test_accuracy > 0.8
    assert trained.n_train + trained.n_validation == 120


class KillAfter(Callback):
    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_epoch_end(self, record: EpochRecord) -> None:
        if record.epoch == self._epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("changes", [{}, {"leader_fraction": "auto"}, {"method": "greedy"}])
def test_a_resumed_run_ends_with_the_same_bits(data, tmp_path, changes):
    config = config_of(**changes)
    whole = train(data, config)
    with pytest.raises(KeyboardInterrupt):
        train(data, config, callbacks=[KillAfter(3)], output=tmp_path)
    torch.manual_seed(7)
    resumed = train(data, config, output=tmp_path, resume=True)
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adaptive_leadership_moves_from_its_start(data):
    trained = train(data, config_of(leader_fraction="auto"))
    fraction = float(trained.model.state_dict()["blocks.0.auxiliary.leader_fraction"])
    assert 0.0 < fraction < 1.0


def test_the_bundle_predicts_as_the_trained_model(data, tmp_path):
    trained = train(data, config_of("dfa", "resnet"))
    save_bundle(tmp_path, trained.model, trained.config, {"metrics": {"test_accuracy": 0.5}})
    bundle = load_bundle(tmp_path)
    loader = build_image_loader(data.test, np.arange(60), bundle.config.images, 8)
    assert np.array_equal(predict_classes(bundle.model, bundle.config, loader), trained.predicted)
    assert "one of 3 classes" in (tmp_path / "card.md").read_text()


def test_mirrored_predictions_are_those_of_the_mean_probability(data):
    config = with_changes(config_of(training={"epochs": 1}), {"inference.mirror": True}, "test")
    trained = train(data, config)
    loader = build_image_loader(data.test, np.arange(60), trained.config.images, 60)
    (batch,) = loader
    model = trained.model.eval()
    with torch.no_grad():
        both = [model(batch["inputs"]), model(batch["inputs"].flip(-1))]
    mean = torch.stack(both).softmax(-1).mean(0)
    assert np.array_equal(trained.predicted, mean.argmax(-1).numpy())
    assert not torch.equal(both[0].argmax(-1), mean.argmax(-1))


def test_a_model_of_images_predicts_no_ages(data, tmp_path):
    trained = train(data, config_of(training={"epochs": 1}))
    bundle = Bundle(trained.model, trained.config, {}, "")
    with pytest.raises(BundleError, match="tells classes of bands, not ages"):
        predict_scans(bundle, scans_table(["a.nii"])[0], tmp_path)


def test_the_epoch_with_the_highest_validation_accuracy_is_kept(data):
    trained = train(data, config_of())
    scores = [record.val_score for record in trained.history]
    assert trained.kept_epoch == scores.index(max(scores)) + 1
    assert "val_accuracy" in trained.history[0].metrics()


def test_a_limited_run_trains_on_so_many_images(data):
    trained = train(data, config_of(images={"train_limit": 30}, training={"epochs": 1}))
    assert trained.n_train == 30


def test_greedy_trains_one_block_in_each_stretch_of_epochs(data):
    config = config_of("greedy", training={"epochs": 3})
    weights: list[list[torch.Tensor]] = []

    class Watch(Callback):
        def on_model(self, model: BlockStack) -> None:
            self.model = model
            self.note()

        def on_epoch_end(self, record: EpochRecord) -> None:
            self.note()

        def note(self) -> None:
            blocks = self.model.blocks
            weights.append([torch.cat([p.flatten() for p in b.parameters()]) for b in blocks])

    train(data, config, callbacks=[Watch()])
    for epoch, (before, after) in enumerate(pairwise(weights)):
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert moved == [block == epoch for block in range(3)]


def test_greedy_with_fewer_epochs_than_blocks_is_refused(data):
    with pytest.raises(TrainingError, match="3 blocks in turn, 2 epochs"):
        train(data, config_of("greedy", training={"epochs": 2}))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_sgd_trains(data, optimizer):
    training = {"optimizer": optimizer, "learning_rate": 0.05}
    assert train(data, config_of(training=training)).test_accuracy > 0.8


@pytest.mark.parametrize(("optimizer", "nesterov"), [("sgd", True), ("momentum", False)])
def test_momentum_is_nesterov_s_or_plain(optimizer, nesterov):
    config = make_image_config("mlp", training={"optimizer": optimizer})
    (group,) = build_optimizer(torch.nn.Linear(2, 2), config).param_groups
    assert group["momentum"] == 0.9 and group["nesterov"] == nesterov


LAST = {"images": {"validation_fraction": 0.0}}


def test_without_a_validation_part_the_last_epoch_is_kept(data):
    trained = train(data, config_of(**LAST, training={"keep": "last"}))
    assert (trained.n_train, trained.n_validation) == (120, 0)
    assert trained.kept_epoch == len(trained.history) == 6
    assert trained.test_accuracy > 0.8
    assert "val_accuracy" not in trained.history[0].metrics()


def test_without_a_validation_part_a_spoilt_weight_is_refused(data):
    class Spoil(Callback):
        def on_model(self, model: BlockStack) -> None:
            self.model = model

        def on_step_end(self, epoch: int, loss: float) -> None:
            next(self.model.parameters()).data.fill_(float("inf"))

    config = config_of(**LAST, training={"keep": "last", "batch_size": 120})
    with pytest.raises(NonFiniteLossError, match="after epoch 1"):
        train(data, config, [Spoil()])


@pytest.mark.parametrize(
    "training", [{}, {"keep": "last", "patience_epochs": 3}], ids=["best", "patience"]
)
def test_nothing_to_choose_an_epoch_by_is_refused(training):
    with pytest.raises(ConfigError, match="keep must be last"):
        config_of(**LAST, training=training)


class CountSteps(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step_end(self, epoch: int, loss: float) -> None:
        self.steps.append(epoch)


@pytest.mark.parametrize(("iterations", "epochs"), [(20, [14, 6]), (14, [14]), (3, [3])])
def test_a_budget_in_steps_may_end_within_an_epoch(data, iterations, epochs):
    # 108 images train, in 14 batches of 8.
    steps = CountSteps()
    trained = train(data, config_of(training={"iterations": iterations}), [steps])
    assert [steps.steps.count(n + 1) for n in range(len(epochs))] == epochs
    assert len(steps.steps) == iterations and len(trained.history) == len(epochs)


def test_epochs_that_are_asked_for_replace_a_budget_in_steps():
    config = config_of(training={"iterations": 500})
    changed = with_changes(config, {"training.epochs": 3}).training
    assert (changed.iterations, changed.epochs) == (None, 3)


def rates(steps: int = 100, **training) -> list[float]:
    settings = make_image_config("mlp", training={"warmup_epochs": 0, **training}).training
    return [stretch_rate(settings, (1, 10), 1 + n // 10, n % 10, 10) for n in range(steps)]


def test_rates_end_at_their_floor_by_a_cosine_or_a_line():
    ends = {"learning_rate": 0.1, "min_learning_rate": 0.01}
    cosine = rates(schedule="cosine", **ends)
    assert cosine[50] == pytest.approx(0.55) and 0.1 < cosine[99] < 0.101
    line = rates(schedule="linear", **ends)
    assert line[50] == pytest.approx(0.55) and line[25] == pytest.approx(0.775)
    assert rates(schedule="cosine")[99] < 0.001


def test_the_rate_falls_in_four_steps_of_a_quarter():
    found = rates(schedule="steps")
    assert [found[n] for n in (0, 49, 50, 74, 75, 88, 89, 94)] == [
        1, 1, 0.25, 0.25, 0.25**2, 0.25**2, 0.25**3, 0.25**4,
    ]  # fmt: skip


def test_a_budget_in_steps_is_the_length_of_the_fall():
    found = rates(95, schedule="linear", iterations=95)
    assert found[94] == pytest.approx(1 / 95)


def test_the_network_sees_the_window_and_not_the_whole_image(data):
    trained = train(data, config_of(network="resnet", images={"crop_size": 12}))
    assert trained.config.input_shape == (2, 12, 12)
    assert trained.model[0].body[0](torch.zeros(1, 2, 12, 12)).shape[2:] == (12, 12)
