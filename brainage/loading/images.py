"""Make batches of images, augmented as a whole."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from brainage.config import ImagesConfig
from brainage.errors import ConfigError
from brainage.images.sources import ImageSource, Indices
from brainage.loading.batches import count_batches, draw_batches


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
