"""Data, draws and steps that lie on the device: the same code on a CPU."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from brainage.config import Config, with_changes
from brainage.images.sources import ArrayImages
from brainage.training.schedules import stretch_rate
from pipelines.device.batches import DeviceImages, cut_windows, draw_epoch, put_images
from pipelines.device.cells import Cell, learn
from pipelines.device.replay import capture, restore
from pipelines.device.training import DeviceTraining
from pipelines.device.trainings import METHODS
from pipelines.device.yardsticks import run_epoch
from tests.small import make_image_config

CPU = torch.device("cpu")
READS_BACK = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "item")


class NoReading(TorchDispatchMode):
    """Refuse what waits for a value of the device, and so cannot be captured."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in READS_BACK, f"{name} reads a value back"
        if name == "index":
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "index by a mask"
        return func(*args, **(kwargs or {}))


def make_source(count: int) -> ArrayImages:
    rng = np.random.default_rng(count)
    labels = np.arange(count, dtype=np.int64) % 2
    images = rng.integers(0, 120, (count, 2, 16, 16), dtype=np.uint8)
    images[labels == 1] += 100
    return ArrayImages(images, labels)


def make_training_config(method: str = "lfnn_l", epochs: int = 3) -> Config:
    config = make_image_config("resnet", epochs=epochs, method=method, blocks=2)
    return with_changes(
        config,
        {
            "images.crop_padding": 2,
            "images.flip_probability": 0.5,
            "images.validation_fraction": 0.0,
            "training.optimizer": "sgd",
            "training.learning_rate": 0.05,
            "training.batch_size": 8,
            "training.keep": "last",
            "training.max_gradient_norm": None,
        },
    )


def make_data(config: Config, device: torch.device = CPU) -> DeviceImages:
    assert config.images is not None
    return put_images(make_source(44), make_source(20), config.images, device)


def make_training(config: Config, path: Path, device: torch.device = CPU, **more: Any) -> Any:
    return DeviceTraining(config, make_data(config, device), device, path, "run", **more)


def weights(training: DeviceTraining) -> list[torch.Tensor]:
    return [value.clone().cpu() for value in training.state.model.state_dict().values()]


def test_windows_are_cut_and_mirrored_as_by_hand():
    padded = torch.arange(2 * 4 * 5 * 1).reshape(2, 4, 5, 1)
    index, top, left, flip = torch.tensor([[1, 0, 0], [2, 0, 1], [1, 3, 0], [0, 1, 1]])
    windows = cut_windows(padded, index, top, left, flip, (2, 2))
    image = padded[..., 0]
    assert windows[0, 0].equal(image[1, 2:4, 1:3])
    assert windows[1, 0].equal(image[0, 0:2, 3:5].flip(1))
    assert windows[2, 0].equal(image[0, 1:3, 0:2].flip(1))


def test_batch_is_normalised_and_its_border_is_black(tmp_path: Path):
    config = make_training_config()
    data = make_data(config)
    source, zero = make_source(44), torch.zeros(1, dtype=torch.long)
    still = torch.stack([zero + 5, zero + 2, zero + 2, zero])
    inputs, labels = data.batch(still)
    expected = (torch.from_numpy(source.images[5:6]).float() / 255 - 0.5) / 0.2
    torch.testing.assert_close(inputs, expected)
    assert labels.tolist() == [source.labels[5]]
    inputs, _ = data.batch(torch.stack([zero + 5, zero, zero, zero]))
    assert torch.allclose(inputs[:, :, :2], torch.tensor(-2.5))
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_draws_follow_from_seed_and_epoch_alone():
    first = draw_epoch(50, 4, 0.5, seed=1, epoch=2)
    assert first.equal(draw_epoch(50, 4, 0.5, seed=1, epoch=2))
    assert not first.equal(draw_epoch(50, 4, 0.5, seed=1, epoch=3))
    assert first[0].sort().values.equal(torch.arange(50))
    assert first[1:3].min() == 0 and first[1:3].max() == 8
    assert set(first[3].tolist()) == {0, 1}


@pytest.mark.parametrize("method", ["bp", "lfnn_l", "infopro"])
def test_step_reads_nothing_back(tmp_path: Path, method: str):
    training = make_training(make_training_config(method), tmp_path / "c")
    training.begin_epoch()
    with NoReading():
        training.queue_step()
        training.queue_step()
    assert {name.partition(" ")[0] for name in METHODS} >= {method} - {"bp"}


@pytest.mark.parametrize("how", ["BP graph", "LFNN-ℓ graph"])
@pytest.mark.parametrize("network", ["resnet3d", "usc_cnn3d"])
def test_step_of_a_brain_age_network_reads_nothing_back(network: str, how: str):
    from pipelines.device.cells import TrainingState, build_model, random_batch

    config = Cell(network, (16, 16, 16), "float32", how, narrow=True).config()
    state = TrainingState(build_model(config), config, names=(), shuffle=torch.Generator())
    batch = random_batch(config, 0)
    with NoReading():
        learn(state, batch["inputs"], batch["target"])


def test_same_seed_gives_the_same_weights_and_it_learns(tmp_path: Path):
    config = make_training_config(epochs=6)
    runs = [make_training(config, tmp_path / name) for name in "ab"]
    for training in runs:
        while not training.is_over:
            run_epoch([training], CPU)
    for a, b in zip(*map(weights, runs), strict=True):
        assert a.equal(b)
    assert runs[0].error_percent() <= 10.0
    assert runs[0].state.history[-1].train_loss < runs[0].state.history[0].train_loss


def test_rate_of_each_step_is_the_trainers(tmp_path: Path):
    config = make_training_config(epochs=2)
    training = make_training(config, tmp_path / "c")
    run_epoch([training], CPU)
    training.begin_epoch()
    training.queue_step()
    factor = stretch_rate(config.training, (1, 2), 2, 0, training.steps)
    rates = {float(group["lr"]) for o in training.state.optimizers for group in o.param_groups}
    assert rates == {float(torch.tensor(config.training.learning_rate * factor))}


def test_training_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path: Path):
    config = make_training_config(epochs=3)
    whole = make_training(config, tmp_path / "whole")
    for _ in range(3):
        run_epoch([whole], CPU)
    part = make_training(config, tmp_path / "part")
    run_epoch([part], CPU)
    part.save()
    resumed = make_training(config, tmp_path / "part")
    assert resumed.epochs_done == 1
    while not resumed.is_over:
        run_epoch([resumed], CPU)
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        assert a.equal(b)


def test_checkpoint_of_another_run_is_replaced(tmp_path: Path):
    config = make_training_config()
    training = make_training(config, tmp_path / "c")
    run_epoch([training], CPU)
    training.save()
    other = DeviceTraining(config, make_data(config), CPU, tmp_path / "c", "another")
    assert other.epochs_done == 0
    for a, b in zip(weights(other), weights(make_training(config, tmp_path / "d")), strict=True):
        assert a.equal(b)


def test_warm_up_leaves_nothing_behind():
    weight, momentum = torch.tensor([1.0]), torch.tensor([2.0])
    before = [(weight, weight.clone())]
    weight += 5
    restore([weight, momentum], before)
    assert (weight.item(), momentum.item()) == (1.0, 0.0)


class Graph:
    """Stands for a CUDA graph: replays by running the step, or cannot be captured."""

    refuses = False

    def __init__(self, *args: object, **more: object) -> None:
        self.step: Any = None

    def replay(self) -> None:
        self.step()

    def __enter__(self) -> None:
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")

    def __exit__(self, *error: object) -> None: ...


@pytest.mark.parametrize("refuses", [False, True])
def test_capture_begins_where_single_steps_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
):
    config = make_training_config()
    plain = make_training(config, tmp_path / "plain")
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Graph)
    monkeypatch.setattr(Graph, "refuses", refuses)
    for goes_on in (False, True):
        other = make_training(config, tmp_path / "other", graphs=False)
        assert other.epochs_done == int(goes_on)
        replay = capture(other._learn, other._changed, stream, "other")  # type: ignore[arg-type]
        assert replay.is_graph is not refuses
        run_epoch([plain, other], CPU)
        for a, b in zip(weights(plain), weights(other), strict=True):
            assert a.equal(b)
        other.save()


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["bp", "lfnn_l", "infopro", "infopro_contrast"])
def test_graph_learns_what_single_steps_learn(tmp_path: Path, method: str):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    config = with_changes(make_training_config(method), {"training.precision": "float32"})
    runs = [
        make_training(config, tmp_path / str(graphs), device, graphs=graphs)
        for graphs in (False, True)
    ]
    assert runs[1].replay.is_graph
    run_epoch(runs, device)
    for a, b in zip(*map(weights, runs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
