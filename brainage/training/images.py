"""One training run on images: a method and a seed on a data set; the same for all commands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from brainage.config import Config, dump_config
from brainage.files import sha256_bytes
from brainage.images.decoding import Labels
from brainage.images.sets import resolve_images
from brainage.images.sources import ArrayImages, ImageData, ImageSource, Indices, split_training
from brainage.lfnn.blocks import BlockStack
from brainage.loading.images import build_image_loader
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.options import IN_MEMORY, TrainOptions
from brainage.training.processes import FitTask, fit
from brainage.training.state import Loader


@dataclass(frozen=True)
class TrainedImages:
    """Result of `train_images`.

    Attributes
    ----------
    model : BlockStack
        With the kept weights.
    config : Config
        With the data set's facts filled in.
    predicted, labels : numpy.ndarray of int64 (N,)
        Classes of the test images, as predicted and as they are.
    n_train, n_validation : int
        Images that trained, and that chose the epoch.
    seconds_per_epoch, peak_memory_mb : float
        Median training time of an epoch, and the largest memory of the run.
    """

    model: BlockStack
    config: Config
    history: tuple[EpochRecord, ...]
    kept_epoch: int
    predicted: Labels
    labels: Labels
    n_train: int
    n_validation: int
    seconds_per_epoch: float
    peak_memory_mb: float

    @property
    def test_accuracy(self) -> float:
        """Share of the test images whose class is right."""
        return float((self.predicted == self.labels).mean())


def train_images(
    data: ImageData,
    config: Config,
    options: TrainOptions = IN_MEMORY,
    callbacks: Sequence[Callback] = (),
) -> TrainedImages:
    """Train on the training images but for any validation part, and predict the test images.

    Raises
    ------
    ConfigError
        If the settings name no known data set, or do not fit the network.
    TrainingError
        As `Trainer.fit` does.
    """
    config = resolve_images(config)
    images, batch_size = config.images, config.training.batch_size
    assert images is not None
    train, validation = split_training(data.train.labels, images, config.split.seed)
    task = FitTask(
        config,
        tuple(f"image {position}" for position in train),
        partial(build_loaders, data.train, train, validation, config),
        _run_hash(data, config),
        options,
    )
    model, result = fit(task, callbacks)
    everyone = np.arange(len(data.test.labels))
    test_loader = build_image_loader(data.test, everyone, images, batch_size)
    return TrainedImages(
        model=model,
        config=config,
        history=result.history,
        kept_epoch=result.kept_epoch,
        predicted=predict_classes(model, config, test_loader),
        labels=data.test.labels,
        n_train=len(train),
        n_validation=len(validation),
        seconds_per_epoch=float(np.median([record.epoch_seconds for record in result.history])),
        peak_memory_mb=max(record.peak_memory_mb for record in result.history),
    )


def build_loaders(
    source: ImageSource,
    train: Indices,
    validation: Indices,
    config: Config,
    shuffle: torch.Generator | None,
    reads_inputs: bool = True,
) -> tuple[Loader, Loader]:
    """Training and validation batches of an image data set.

    Parameters
    ----------
    shuffle : torch.Generator, optional
        Orders the training images; absent: their own order.
    reads_inputs : bool
        Without it a batch's inputs are empty: its labels and order are all that counts.
    """
    images, batch_size = config.images, config.training.batch_size
    assert images is not None
    if not reads_inputs:
        nothing = np.zeros((1, config.input_shape[0], 1, 1), np.uint8)
        labels = source.labels
        source = ArrayImages(np.broadcast_to(nothing, (len(labels), *nothing.shape[1:])), labels)
        still = {"crop_padding": 0, "crop_size": None, "min_crop_area": 0.0, "elastic_alpha": 0.0}
        images = images.model_copy(update=still)
    processes = config.training.loader_processes
    return (
        build_image_loader(
            source, train, images, batch_size, shuffle, augments=True, processes=processes
        ),
        build_image_loader(source, validation, images, batch_size),
    )


@torch.no_grad()
def predict_classes(model: BlockStack, config: Config, loader: Loader) -> Labels:
    """Predicted classes (N,) of a loader's images, in evaluation mode.

    With ``inference.mirror`` the probabilities of an image and its mirror image are averaged.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    predicted = []
    for batch in loader:
        inputs = batch["inputs"].to(device)
        outputs = model(inputs)
        if config.inference.mirror:
            outputs = outputs.softmax(dim=-1) + model(inputs.flip(-1)).softmax(dim=-1)
        predicted.append(outputs.argmax(dim=-1).cpu())
    model.train(was_training)
    return torch.cat(predicted).numpy()


def _run_hash(data: ImageData, config: Config) -> str:
    parts = [dump_config(config), data.train.content_hash(), data.test.content_hash()]
    return sha256_bytes(json.dumps(parts).encode())
