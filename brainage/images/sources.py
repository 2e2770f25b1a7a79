"""Hold images in memory or on disk, and split them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from brainage.config import ImagesConfig
from brainage.errors import ImageDataError
from brainage.files import sha256_bytes
from brainage.images.decoding import MOST, FolderImages, Labels, Pixels

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


def describe_lacking_classes(data: ImageData) -> str:
    """Say which classes one part of a data set lacks, where that decides the accuracy; else ''.

    Examples
    --------
    >>> images = np.zeros((3, 1, 4, 4), np.uint8)
    >>> train, test = ArrayImages(images, np.array([0, 0, 1])), ArrayImages(images, np.arange(3))
    >>> describe_lacking_classes(ImageData(train, test))
    '1 of 3 test images are of classes that no training image has (2): none of them can be right.'
    """
    trained, labels = np.unique(data.train.labels), data.test.labels
    lacking = np.setdiff1d(labels, trained)
    if lacking.size:
        count, named = int(np.isin(labels, lacking).sum()), ", ".join(map(str, lacking[:6]))
        return (
            f"{count} of {len(labels)} test images are of classes that no training image has "
            f"({named}): none of them can be right."
        )
    found = len(np.unique(labels))
    if found < len(trained):
        return f"test images have {found} of the {len(trained)} classes: the accuracy is theirs."
    return ""


def count_shared(data: ImageData) -> int:
    """Count test images that are training images too, to the byte; 0 for sets above `MOST`."""
    if len(data.train.labels) > MOST:
        return 0
    known = set(_digests(data.train))
    return sum(digest in known for digest in _digests(data.test))


def _digests(source: ImageSource) -> Iterator[bytes]:
    contents: Iterable[bytes] = ()
    if isinstance(source, ArrayImages):
        contents = (image.tobytes() for image in source.images)
    elif isinstance(source, FolderImages):
        contents = (path.read_bytes() for path in source.paths)
    return (hashlib.sha256(content).digest() for content in contents)


def split_training(labels: Labels, images: ImagesConfig, seed: int) -> tuple[Indices, Indices]:
    """Set a validation part of the training images aside, alike in classes.

    Returns
    -------
    numpy.ndarray of int64, twice
        Sorted positions that train (at most `images.train_limit`) and that validate, if any.

    Raises
    ------
    ImageDataError
        If there are too few images to have each class in both parts.
    """
    everyone = np.arange(len(labels))
    train, validation = everyone, everyone[:0]
    try:
        if images.validation_fraction > 0:
            train, validation = train_test_split(
                everyone, test_size=images.validation_fraction, stratify=labels, random_state=seed
            )
        if images.train_limit is not None and images.train_limit < len(train):
            train, _ = train_test_split(
                train, train_size=images.train_limit, stratify=labels[train], random_state=seed
            )
    except ValueError as error:
        problem = f"{len(labels)} images cannot be split: {error}."
        remedy = "Raise images.validation_fraction, or set it to 0 and training.keep to last."
        raise ImageDataError(images.dataset, problem.replace("..", "."), remedy) from error
    return np.sort(train).astype(np.int64), np.sort(validation).astype(np.int64)
