"""Make batches of images, augmented as a whole."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from brainage.config import ImagesConfig
from brainage.errors import ConfigError
from brainage.images.sources import ImageSource, Indices
from brainage.loading.dataset import Batch, BatchLoader


@dataclass(frozen=True)
class ChosenImages:
    """The images of a source at some positions, read by the batch."""

    source: ImageSource
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, positions: Tensor) -> Batch:
        chosen = self.indices[positions.numpy()]
        return {
            "inputs": torch.as_tensor(self.source.load(chosen)),
            "target": torch.from_numpy(self.source.labels[chosen]),
            "index": positions,
        }


def build_image_loader(
    source: ImageSource,
    indices: Indices,
    images: ImagesConfig,
    batch_size: int,
    shuffle: Generator | None = None,
    *,
    augments: bool = False,
    processes: int = 0,
) -> BatchLoader:
    """Build batches of images; see `BatchLoader`.

    Parameters
    ----------
    indices : numpy.ndarray of int64
        Images of the source that take part; ``"index"`` counts in them.
    images : ImagesConfig
        Resolved settings: normalisation and augmentation.
    shuffle : torch.Generator, optional
        Orders the images anew each time, and leaves out a last batch of one.

    Returns
    -------
    BatchLoader
        ``"inputs"`` are float32 (B, C, I, J), ``"target"`` int64 (B,).

    Raises
    ------
    ConfigError
        If the mean or deviation of the data set is open.
    """
    if images.mean is None or images.std is None:
        raise ConfigError("images.mean", "is open.", "Resolve the settings first.")
    transform = ImageTransform(images, augments)
    samples = ChosenImages(source, indices)
    return BatchLoader(
        samples, transform, batch_size, shuffle, is_random=augments, processes=processes
    )


@dataclass(frozen=True)
class ImageTransform:
    """Augment where asked, and normalise by the data set's mean and deviation."""

    images: ImagesConfig
    augments: bool

    def __call__(self, batch: Batch) -> Batch:
        """From pixels of uint8 (B, C, I, J) to inputs of float32, by the batch's first seed."""
        pixels, images = batch["inputs"], self.images
        if self.augments:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(batch["seeds"][0]))
                pixels = augment(pixels, images)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (images.mean, images.std))
        return {**batch, "inputs": (pixels.float() / 255 - mean) / std}


def augment(pixels: Tensor, images: ImagesConfig) -> Tensor:
    """Cut a random window of each padded image and flip some: uint8 (B, C, I, J), a new tensor.

    The usual augmentation of CIFAR (He et al. 2016): 4 pixels of zeros on each side, a window of
    the image's size, a left-right flip for half of the images. Parameters are drawn from torch's
    global generator.
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
