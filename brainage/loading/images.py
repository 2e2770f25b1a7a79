"""Make batches of images, augmented as a whole."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from brainage.config import ImagesConfig
from brainage.errors import ConfigError
from brainage.images.sources import ImageSource, Indices
from brainage.loading.dataset import Batch, BatchLoader


@dataclass(frozen=True)
class ChosenImages:
    """Images of a source at some positions, read, augmented where asked, and normalised."""

    source: ImageSource
    indices: Indices
    images: ImagesConfig

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Batch) -> Batch:
        chosen = self.indices[draw["index"].numpy()]
        pixels = torch.as_tensor(self.source.load(chosen))
        return {**draw, "inputs": pixels, "target": torch.from_numpy(self.source.labels[chosen])}

    def change(self, batch: Batch) -> Batch:
        """From pixels of uint8 (B, C, I, J) to inputs of float32, by the batch's first seed."""
        pixels, images = batch["inputs"], self.images
        if "seeds" in batch:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(batch["seeds"][0]))
                pixels = augment(pixels, images)
        elif images.crop_size is not None:
            pixels = central_window(pixels, images.crop_size)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (images.mean, images.std))
        return {**batch, "inputs": (pixels.float() / 255 - mean) / std}


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
    """Build batches of inputs (B, C, I, J) and classes (B,); see `BatchLoader`.

    Parameters
    ----------
    indices : numpy.ndarray of int64
        Images of the source that take part; ``"index"`` counts in them.
    images : ImagesConfig
        Resolved settings: normalisation and augmentation.
    shuffle : torch.Generator, optional
        Orders the images anew each time, and leaves out a last batch of one.

    Raises
    ------
    ConfigError
        If the mean or deviation of the data set is open, or not one a channel.
    """
    if images.mean is None or images.std is None:
        raise ConfigError("images.mean", "is open.", "Resolve the settings first.")
    for name, values in (("images.mean", images.mean), ("images.std", images.std)):
        if images.input_shape is not None and len(values) not in (1, images.input_shape[0]):
            problem = f"expected {images.input_shape[0]} numbers, one a channel, got {len(values)}."
            raise ConfigError(name, problem)
    chosen = ChosenImages(source, indices, images)
    return BatchLoader(
        chosen, chosen.change, batch_size, shuffle, is_random=augments, processes=processes
    )


def augment(pixels: Tensor, images: ImagesConfig) -> Tensor:
    """Distort, cut a random window and flip some: uint8 (B, C, I, J), a new tensor.

    The usual augmentation of CIFAR (He et al. 2016): 4 pixels of zeros on each side, a window of
    the image's size, a left-right flip for half of the images. Parameters are drawn from torch's
    global generator.
    """
    if images.elastic_alpha:
        pixels = distort(pixels, images.elastic_alpha, images.elastic_sigma)
    if images.min_crop_area:
        pixels = resized_window(pixels, images.min_crop_area, images.crop_size)
    elif images.crop_padding or images.crop_size:
        pixels = random_window(pixels, images.crop_padding or 0, images.crop_size)
    if images.flip_probability:
        flips = torch.rand(len(pixels)) < images.flip_probability
        pixels = torch.where(flips[:, None, None, None], pixels.flip(3), pixels)
    return pixels.contiguous()


def random_window(pixels: Tensor, padding: int, edge: int | None = None) -> Tensor:
    """Cut a random window of each image within `padding` pixels of zeros: (B, C, I, J).

    Parameters
    ----------
    edge : int, optional
        Of the window; absent: as large as the image.
    """
    count, _, *size = pixels.shape
    height, width = (edge or side for side in size)
    spare = [side + 2 * padding - part for side, part in zip(size, (height, width), strict=True)]
    if spare[0] == spare[1]:
        top, left = torch.randint(0, spare[0] + 1, (2, count, 1))
    else:
        top, left = (torch.randint(0, free + 1, (count, 1)) for free in spare)
    padded = functional.pad(pixels, [padding] * 4)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    samples = torch.arange(count)[:, None, None]
    # Indexed so, the channels come last.
    return padded[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def central_window(pixels: Tensor, edge: int) -> Tensor:
    """Cut the central window out of images (B, C, I, J)."""
    top, left = ((side - edge) // 2 for side in pixels.shape[2:])
    return pixels[:, :, top : top + edge, left : left + edge]


def resized_window(pixels: Tensor, min_area: float, edge: int | None = None) -> Tensor:
    """Cut a window of random area and shape out of each image, and resize it: (B, C, I, J).

    Area from `min_area` of the image to all of it, sides 3:4 to 4:3 on a logarithmic scale, where
    they fit (Szegedy et al. 2015, Going deeper with convolutions); bilinear, without smoothing.
    """
    count = len(pixels)
    area = min_area + (1 - min_area) * torch.rand(count)
    shape = torch.exp((2 * torch.rand(count) - 1) * math.log(4 / 3) / 2)
    part = torch.stack([area.sqrt() * shape, area.sqrt() / shape], dim=1).clamp(max=1.0)
    centre = (2 * torch.rand(count, 2) - 1) * (1 - part)
    scales = torch.diag_embed(part)
    return _sample(pixels, torch.cat([scales, centre[:, :, None]], dim=2), edge)


def _sample(pixels: Tensor, affine: Tensor, edge: int | None) -> Tensor:
    size = [len(pixels), pixels.shape[1], *(edge or side for side in pixels.shape[2:])]
    grid = functional.affine_grid(affine, size, align_corners=False)
    return _read_at(pixels, grid, "border")


def _read_at(pixels: Tensor, grid: Tensor, beyond: str) -> Tensor:
    moved = functional.grid_sample(pixels.float(), grid, padding_mode=beyond, align_corners=False)
    return moved.round().to(torch.uint8)


def distort(pixels: Tensor, alpha: float, sigma: float) -> Tensor:
    """Move each pixel by a smooth random field (Simard et al. 2003): uint8 (B, C, I, J).

    Parameters
    ----------
    alpha : float
        Displacements in pixels before they are smoothed: drawn from −alpha to alpha.
    sigma : float
        Of the Gaussian that smooths them, in pixels.
    """
    count, channels, height, width = pixels.shape
    radius = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma).square())
    line = line / line.sum()
    field = alpha * (2 * torch.rand(count * 2, 1, height, width) - 1)
    field = functional.conv2d(field, line.view(1, 1, 1, -1), padding=(0, radius))
    field = functional.conv2d(field, line.view(1, 1, -1, 1), padding=(radius, 0))
    moves = field.view(count, 2, height, width).permute(0, 2, 3, 1)
    still = functional.affine_grid(
        torch.eye(2, 3).expand(count, 2, 3), [count, channels, height, width], align_corners=False
    )
    # The grid runs from −1 to 1 over the image.
    return _read_at(pixels, still + 2 * moves / torch.tensor([width, height]), "zeros")
