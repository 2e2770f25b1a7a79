"""Image data sets: their facts, loading, splitting, and batches augmented as a whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor

from brainage.config import Config, ImagesConfig
from brainage.data.image_files import (
    FolderImages,
    Labels,
    Pixels,
    check_labels,
    list_annotated,
    list_class_folders,
    read_cifar_binary,
    read_idx,
    read_jpeg_arrays,
)
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


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set before it is read.

    Attributes
    ----------
    load : callable
        From its folder and these facts to its parts.
    classes : int
        Number of classes.
    input_shape : tuple of int (3,)
        Channels, height, width.
    mean, std : tuple of float
        Of each channel of the training images, values from 0 to 1.
    crop_padding, flip_probability
        Usual augmentation: see `brainage.config.ImagesConfig`.
    """

    load: Callable[[Path, "DatasetFacts"], ImageData]
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip_probability: float = 0.0


def load_images(name: str, data_root: Path) -> ImageData:
    """Load a data set from ``data_root/name``: small ones into memory, folders by reference.

    Raises
    ------
    ConfigError
        If the name is unknown.
    ImageDataError
        If a file is missing or malformed.
    """
    facts = dataset_facts(name)
    folder = data_root / name
    if not folder.is_dir():
        remedy = f"Give --data-root, or download it: brainage fetch {name}."
        raise ImageDataError(str(folder), "no such folder.", remedy)
    return facts.load(folder, facts)


def dataset_facts(name: str) -> DatasetFacts:
    """Facts of a data set.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    if name not in DATASETS:
        known = ", ".join(sorted(DATASETS))
        raise ConfigError("images.dataset", f"unknown data set {name!r}.", f"Choose: {known}.")
    return DATASETS[name]


def resolve_images(config: Config) -> Config:
    """Fill what the settings leave open from the data set's facts.

    Raises
    ------
    ConfigError
        If no data set is named, or it is unknown.
    """
    if config.images is None:
        raise ConfigError("images", "no image data set is named.", "Give images.dataset.")
    facts = dataset_facts(config.images.dataset)
    known = {
        name: getattr(facts, name)
        for name in ("input_shape", "mean", "std", "crop_padding", "flip_probability")
        if getattr(config.images, name) is None
    }
    target = config.target.model_copy(update={"classes": facts.classes})
    images = config.images.model_copy(update=known)
    return config.model_copy(update={"images": images, "target": target})


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
        batches, rest = divmod(len(self._indices), self._batch_size)
        drops = self._shuffle is not None and rest == 1 and batches > 0
        return batches if drops or rest == 0 else batches + 1

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        count = len(self._indices)
        if self._shuffle is None:
            order = torch.arange(count)
        else:
            order = torch.randperm(count, generator=self._shuffle)
        for start in range(0, len(self) * self._batch_size, self._batch_size):
            chosen = order[start : start + self._batch_size]
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


def _load_idx(folder: Path, facts: DatasetFacts) -> ImageData:
    def load(part: str) -> ArrayImages:
        images = read_idx(_plain_or_gzip(folder / f"{part}-images-idx3-ubyte"))
        path = _plain_or_gzip(folder / f"{part}-labels-idx1-ubyte")
        labels = read_idx(path)
        if images.shape[1:] != facts.input_shape[1:] or labels.shape != images.shape[:1]:
            problem = f"images {images.shape} and labels {labels.shape} do not fit."
            raise ImageDataError(str(path), problem)
        check_labels(labels, facts.classes, path)
        return ArrayImages(images[:, None], labels.astype(np.int64))

    return ImageData(load("train"), load("t10k"))


def _plain_or_gzip(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() else path


def _load_cifar(folder: Path, facts: DatasetFacts) -> ImageData:
    if (folder / "train.npz").exists():
        size = (facts.input_shape[1], facts.input_shape[2])
        parts = [
            ArrayImages(*read_jpeg_arrays(folder / f"{part}.npz", size, facts.classes))
            for part in ("train", "test")
        ]
        return ImageData(*parts)
    if facts.classes == 10:
        files = [f"data_batch_{n}.bin" for n in range(1, 6)], ["test_batch.bin"]
        inner, label_bytes = folder / "cifar-10-batches-bin", 1
    else:
        files, inner, label_bytes = (["train.bin"], ["test.bin"]), folder / "cifar-100-binary", 2
    place = inner if inner.is_dir() else folder
    parts = [
        ArrayImages(*read_cifar_binary([place / n for n in names], label_bytes, facts.classes))
        for names in files
    ]
    return ImageData(*parts)


def _load_folders(folder: Path, facts: DatasetFacts) -> ImageData:
    inner = folder / "tiny-imagenet-200"
    folder = inner if inner.is_dir() else folder
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise ImageDataError(str(folder / part), "no such folder.")
    size = (facts.input_shape[1], facts.input_shape[2])
    train = list_class_folders(folder / "train", size, facts.classes)
    annotations = folder / "val" / "val_annotations.txt"
    test: FolderImages
    if annotations.exists():
        names = sorted(entry.name for entry in (folder / "train").iterdir() if entry.is_dir())
        test = list_annotated(folder / "val" / "images", annotations, names, size)
    else:
        test = list_class_folders(folder / "val", size, facts.classes)
    return ImageData(train, test)


DATASETS: dict[str, DatasetFacts] = {
    "mnist": DatasetFacts(_load_idx, 10, (1, 28, 28), (0.1307,), (0.3081,)),
    "fashion_mnist": DatasetFacts(_load_idx, 10, (1, 28, 28), (0.2860,), (0.3530,)),
    "cifar10": DatasetFacts(
        _load_cifar, 10, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 4, 0.5
    ),
    "cifar100": DatasetFacts(
        _load_cifar, 100, (3, 32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 4, 0.5
    ),
    "tiny_imagenet": DatasetFacts(
        _load_folders, 200, (3, 64, 64), (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821), 8, 0.5
    ),
    "imagenet": DatasetFacts(
        _load_folders, 1000, (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 28, 0.5
    ),
}
