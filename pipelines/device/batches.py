"""A whole image data set on the device, and batches that are cut and flipped there."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from brainage.config import ImagesConfig
from brainage.images.sources import ImageSource
from brainage.model.build import derive_seed
from brainage.training.state import Batch

TEST_BATCH = 1000


@dataclass(frozen=True)
class DeviceImages:
    """Images and labels on a device.

    Attributes
    ----------
    padded : torch.Tensor of uint8 (N, H + 2P, W + 2P, C)
        Training images with zeros around them, channels last.
    labels : torch.Tensor of int64 (N,)
    mean, scale : torch.Tensor (C, 1, 1)
        An input is (pixel - mean) * scale, pixels from 0 to 255.
    test : list of batch
        Test images, normalised, with their labels.
    """

    padded: Tensor
    labels: Tensor
    mean: Tensor
    scale: Tensor
    padding: int
    test: list[Batch]

    @property
    def test_labels(self) -> np.ndarray:
        """Classes of the test images (M,)."""
        return torch.cat([batch["target"] for batch in self.test]).cpu().numpy()

    def batch(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Read inputs (B, C, H, W) and labels (B,) of the images that `draws` (4, B) names."""
        index, top, left, flip = draws.unbind()
        size = [edge - 2 * self.padding for edge in self.padded.shape[1:3]]
        pixels = cut_windows(self.padded, index, top, left, flip, (size[0], size[1]))
        return normalise(pixels, self.mean, self.scale), self.labels.index_select(0, index)


def put_images(
    train: ImageSource, test: ImageSource, images: ImagesConfig, device: torch.device
) -> DeviceImages:
    """Bring a data set to the device; settings are resolved ones."""
    padding = images.crop_padding or 0
    assert images.mean is not None and images.std is not None
    mean, std = (
        255 * torch.tensor(v, device=device)[:, None, None] for v in (images.mean, images.std)
    )
    scale = 1 / std

    def load(source: ImageSource) -> tuple[Tensor, Tensor]:
        everything = source.load(np.arange(len(source.labels)))
        pixels = torch.as_tensor(everything).to(device)
        return pixels, torch.from_numpy(source.labels).to(device)

    pixels, labels = load(train)
    padded = functional.pad(pixels, [padding] * 4).permute(0, 2, 3, 1).contiguous()
    batches = zip(*(part.split(TEST_BATCH) for part in load(test)), strict=True)
    judged = [{"inputs": normalise(x, mean, scale), "target": y} for x, y in batches]
    return DeviceImages(padded, labels, mean, scale, padding, judged)


def cut_windows(
    padded: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, size: tuple[int, int]
) -> Tensor:
    """Cut one window out of each chosen image, mirrored where `flip` is 1.

    Parameters
    ----------
    padded : torch.Tensor (N, H', W', C)
    index, top, left, flip : torch.Tensor of int64 (B,)
    size : tuple of int (2,)
        Height and width of a window.

    Returns
    -------
    torch.Tensor (B, C, height, width)
        Channels beside each other in memory.
    """
    height, width = size
    rows = top[:, None] + torch.arange(height, device=padded.device)
    columns = torch.arange(width, device=padded.device)
    columns = left[:, None] + torch.where(flip[:, None] == 1, width - 1 - columns, columns)
    windows = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return windows.permute(0, 3, 1, 2)


def normalise(pixels: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Bring pixels of uint8 (B, C, H, W) to mean 0 and deviation 1 a channel."""
    return (pixels.float() - mean) * scale


def draw_epoch(count: int, padding: int, flips: float, seed: int, epoch: int) -> Tensor:
    """Draw order, corners and flips of an epoch: int64 (4, N) on the CPU, the same everywhere."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "device", epoch))
    order = torch.randperm(count, generator=generator)
    corners = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    flipped = (torch.rand(count, generator=generator) < flips).long()
    return torch.cat([order[None], corners, flipped[None]])
