"""Images in memory or on disk: splitting, and batches augmented as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor

from brainage.config import ImagesConfig
from brainage.data.batches import count_batches, draw_batches
from brainage.data.image_files import Labels, Pixels
from brainage.errors import ConfigError, ImageDataError
from brainage.files import sha256_bytes

Indices = NDArray[np.int64]


class ImageSource(Protocol):
    """Labelled images that can be asked for by number."""

    @property
    def labels(self) -> Labels:
        """Classes (N,)."""

    def load(self, indices: Indices) -> Pixels | Tensor:
        """Images (B, C, I, J), uint8."""

    def content_hash(self) -> str:
        """Digest of images and labels."""


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in memory: uint8 (N, C, I, J)."""

    images: Pixels
    labels: Labels

    def load(self, indices: Indices) -> Pixels:
        """Images (B, C, I, J)."""
        return self.images[indices]

    def content_hash(self) -> str:
        """SHA-256 of images and labels."""
        return sha256_bytes(np.ascontiguousarray(self.images).tobytes() + self.labels.tobytes())


@dataclass(frozen=True)
class ImageData:
    """Training and test part of a data set, as its authors divided it."""

    train: ImageSource
    test: ImageSource


def split_training(labels: Labels, images: ImagesConfig, seed: int) -> tuple[Indices, Indices]:
    """Set a validation part of the training images aside, alike in classes.

    Returns
    -------
    numpy.ndarray of int64, twice
        Sorted positions that train (at most `images.train_limit`) and that validate.

    Raises
    ------
    ImageDataError
        If there are too few images to have each class in both parts.
    """
    everyone = np.arange(len(labels))
    try:
        train, validation = train_test_split(
            everyone, test_size=images.validation_fraction, stratify=labels, random_state=seed
        )
        if images.train_limit is not None and images.train_limit < len(train):
            train, _ = train_test_split(
                train, train_size=images.train_limit, stratify=labels[train], random_state=seed
            )
    except ValueError as error:
        raise ImageDataError(
            images.dataset, f"{len(labels)} images cannot be split: {error}"
        ) from error
    return np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)


class ImageLoader:
    """Batches {"inputs": float32 (B, C, I, J), "target": int64 (B,), "index": int64 (B,)}.

    Parameters
    ----------
    indices : numpy.ndarray of int64
        Images of the source that take part; ``index`` counts in them.
    images : ImagesConfig
        Resolved settings: normalisation and augmentation.
    shuffle : torch.Generator, optional
        Orders the images anew each time, and switches augmentation on; its randomness comes from
        torch's own generator. A last batch of one image is left out then, because batch
        normalisation cannot learn from one.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: Indices,
        images: ImagesConfig,
        batch_size: int,
        shuffle: Generator | None = None,
        augments: bool = False,
    ) -> None:
        if images.mean is None or images.std is None:
            raise ConfigError("images.mean", "is open.", "Resolve the settings first.")
        self._source, self._indices, self._images = source, indices, images
        self._batch_size, self._shuffle = batch_size, shuffle
        self._augments = augments or shuffle is not None
        self._mean = torch.tensor(images.mean).view(1, -1, 1, 1)
        self._std = torch.tensor(images.std).view(1, -1, 1, 1)
        self._labels = torch.from_numpy(source.labels)

    def __len__(self) -> int:
        trains = self._shuffle is not None
        return count_batches(len(self._indices), self._batch_size, trains=trains)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for chosen in draw_batches(len(self._indices), self._batch_size, self._shuffle):
            positions = self._indices[chosen.numpy()]
            pixels = torch.as_tensor(self._source.load(positions))
            if self._augments:
                pixels = augment(pixels, self._images)
            inputs = (pixels.float() / 255 - self._mean) / self._std
            yield {"inputs": inputs, "target": self._labels[positions], "index": chosen}


def augment(pixels: Tensor, images: ImagesConfig) -> Tensor:
    """Cut a random window of each padded image and flip some: uint8 (B, C, I, J), a new tensor.

    The usual augmentation of CIFAR (He et al. 2016): 4 pixels of zeros on each side, a window of
    the image's size, a left-right flip for half of the images.
    """
    count, _, height, width = pixels.shape
    padding, flip_probability = images.crop_padding or 0, images.flip_probability or 0.0
    if padding:
        top, left = torch.randint(0, 2 * padding + 1, (2, count, 1))
        padded = torch.nn.functional.pad(pixels, [padding] * 4)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        samples = torch.arange(count)[:, None, None]
        # Indexed so, the channels come last.
        window = padded[samples, :, rows[:, :, None], columns[:, None, :]]
        pixels = window.permute(0, 3, 1, 2)
    if flip_probability:
        flips = torch.rand(count) < flip_probability
        pixels = torch.where(flips[:, None, None, None], pixels.flip(3), pixels)
    return pixels.contiguous()
