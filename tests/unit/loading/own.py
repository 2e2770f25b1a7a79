"""Transforms as a user may write them."""

import random

import numpy as np
import torch
import torchio
from monai.transforms import Transform


class AddNumpyNoise(torchio.transforms.IntensityTransform):
    """Draws from NumPy's and Python's global generators."""

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        for image in self.get_images(subject):
            noise = np.random.normal(size=image.shape) * random.random()
            image.set_data(image.data + torch.from_numpy(noise).float())
        return subject


class Spoil(Transform):
    """Gives values that are not finite."""

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        return volume / 0


def no_transform() -> None:
    """Can be imported, and is no transform."""
