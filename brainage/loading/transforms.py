"""TorchIO's random transforms, with faster arithmetic on a bare tensor of one volume.

Each class draws its parameters as its parent in TorchIO does, from torch's global generator and in
the same order: from one seed both make the same change. Subjects, images and tensors of several
channels take TorchIO's own way, so that the classes stand in any of its chains. Milliseconds
a volume of 80 x 96 x 80 on one core, TorchIO's in brackets: see docs/benchmarks.
"""

import math
from abc import abstractmethod

import numpy as np
import torch
import torchio
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional
from torchio.transforms.augmentation import RandomTransform

from brainage.loading.resample import resample


class TensorTransform(RandomTransform):
    """A random transform of TorchIO with a way of its own for bare tensors (1, I, J, K)."""

    def __call__(self, data: object) -> object:
        """Change a bare tensor (1, I, J, K) by `change`, and all else as TorchIO does."""
        if type(data) is not Tensor or data.ndim != 4 or len(data) != 1:
            return super().__call__(data)
        return data if torch.rand(1).item() > self.probability else self.change(data)

    @abstractmethod
    def change(self, volume: Tensor) -> Tensor:
        """Draw parameters and return a changed volume; the given one stays as it is.

        Parameters
        ----------
        volume : torch.Tensor of float16 or float32 (1, I, J, K)
        """


class RandomFlip(TensorTransform, torchio.RandomFlip):
    """Mirror axes at random; see `torchio.RandomFlip`."""

    def change(self, volume: Tensor) -> Tensor:
        """Mirror the drawn axes."""
        drawn = self.get_params(self.flip_probability)
        return volume.flip([axis + 1 for axis in self.axes if drawn[axis]])


class RandomAffine(TensorTransform, torchio.RandomAffine):
    """Turn, scale and shift at random about the centre; 0 comes in at the edge.

    A bare tensor has voxels of 1 mm for TorchIO, so a shift counts voxels. See
    `torchio.RandomAffine`, and `brainage.loading.resample` for the interpolation.
    """

    def change(self, volume: Tensor) -> Tensor:
        """Resample at the drawn places: result x comes from R⁻¹(x / scale − shift)."""
        drawn = self.get_params(self.scales, self.degrees, self.translation, self.isotropic)
        scales, (i, j, k), shift = (values.numpy() for values in drawn)
        # ITK's Euler angles: about j, then i, then k.
        back = Rotation.from_euler("yxz", [j, i, k], degrees=True).as_matrix().T
        matrix, start = (torch.from_numpy(part).float() for part in (back / scales, -back @ shift))
        return resample(volume[0].float(), matrix, start)[None]


class RandomBiasField(TensorTransform, torchio.RandomBiasField):
    """Multiply by a smooth random field; see `torchio.RandomBiasField`."""

    def change(self, volume: Tensor) -> Tensor:
        """Multiply by the exponential of a polynomial over [-1, 1]³, built axis by axis."""
        drawn = self.get_params(self.order, self.coefficients_range)
        powers = torch.arange(self.order + 1)
        field = torch.zeros([len(powers)] * 3)
        is_low = powers[:, None, None] + powers[:, None] + powers <= self.order
        field[is_low] = torch.tensor(drawn)
        for length in volume.shape[1:]:
            line = torch.linspace(-1, 1, length) ** powers[:, None]
            # The axis in front is used up, the new one goes to the end.
            field = torch.tensordot(field, line, dims=([0], [0]))
        return field.exp_().mul_(volume[0])[None]


class RandomNoise(TensorTransform, torchio.RandomNoise):
    """Add Gaussian noise of random deviation inside the head; see `torchio.RandomNoise`.

    On a bare tensor, voxels that are 0 stay 0: they are on every prepared scan, so that noise
    there would tell training scans from others.
    """

    def change(self, volume: Tensor) -> Tensor:
        """Add noise of the drawn mean and deviation where the volume is not 0."""
        mean, std, seed = self.get_params(self.mean_range, self.std_range)
        noise = normal_noise(volume.shape, seed, std)
        if mean:
            noise += mean
        volume = volume.float()
        # A mask of floats, since a product with booleans takes four times as long.
        inside = torch.ne(volume, 0, out=torch.empty_like(volume))
        return noise.mul_(inside).add_(volume)


class IntensityChange(TensorTransform, torchio.transforms.IntensityTransform):
    """An intensity transform of our own; `change` draws for each image of a subject anew.

    Parameters
    ----------
    size : float
        How far it may go; what that means is the subclass's.
    """

    def __init__(self, size: float, **more: object) -> None:
        super().__init__(**more)
        self.size = size

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        """Change the intensity images of a subject."""
        for image in self.get_images(subject):
            image.set_data(self.change(image.data))
        return subject


class RandomContrast(IntensityChange):
    """Pass intensities through a random rising curve of straight pieces; 0 stays 0.

    In T1 scans fluid, grey and white matter are of rising brightness on every scanner, but how far
    apart they lie differs: a random rising curve gives each tissue a brightness of its own.

    Parameters
    ----------
    size : float
        Standard deviation of the logarithm of a piece's slope.
    pieces : int
        Equally wide pieces of the curve.
    """

    def __init__(self, size: float, pieces: int = 6, **more: object) -> None:
        super().__init__(size, **more)
        self.pieces = pieces

    def change(self, volume: Tensor) -> Tensor:
        """Draw the slopes and bend the intensities."""
        return bend(volume.float(), torch.randn(self.pieces) * self.size)


class RandomSharpness(IntensityChange):
    """Add a random share of the finest detail, or take it away; 0 stays 0.

    Detail is what the mean of a neighbourhood of three voxels lacks (unsharp masking). Scanners
    and their reconstruction differ in it, and so does what mixup leaves of two scans.

    Parameters
    ----------
    size : float
        Largest share; -1 leaves the neighbourhood's mean.
    """

    def change(self, volume: Tensor) -> Tensor:
        """Draw the share and add so much of the detail."""
        volume = volume.float()
        inside = torch.ne(volume, 0, out=torch.empty_like(volume))
        means = average_neighbours(torch.stack([volume, inside]))
        detail = volume - means[0] / means[1].clamp_min(1e-6)
        share = self.size * (2 * torch.rand(1).item() - 1)
        return detail.mul_(inside).mul_(share).add_(volume)


class RandomTissue(IntensityChange):
    """Redraw the contrast of grey matter, white matter and fluid at random; 0 stays 0.

    Scanners and sequences differ in the contrast of tissues, and not everywhere alike. Each tissue
    map is added with a strength that varies slowly in space: its mean and the four values along
    each axis that it is interpolated from are normal.

    Parameters
    ----------
    size : float
        Largest strength; each volume's is drawn evenly between 0 and it.
    patterns : torch.Tensor of float32 (T, I, J, K)
        What each tissue looks like in a prepared scan, of mean square 1 inside
        (`brainage.preprocessing.intensity.tissue_patterns`).
    """

    def __init__(self, size: float, patterns: Tensor, p: float = 1.0) -> None:
        super().__init__(size, p=p)
        self.patterns = patterns

    def change(self, volume: Tensor) -> Tensor:
        """Draw the strengths and add the tissues."""
        tissues = len(self.patterns)
        cells = torch.randn(tissues, 1, 4, 4, 4) + torch.randn(tissues, 1, 1, 1, 1)
        strength = self.size * torch.rand(1).item()
        size = list(volume.shape[1:])
        fields = functional.interpolate(cells, size=size, mode="trilinear", align_corners=True)
        added = (fields[:, 0] * self.patterns).sum(0, keepdim=True)
        return added.mul_(strength).mul_(volume != 0).add_(volume)


class RandomEdge(IntensityChange):
    """Take a random layer off what is not 0, so that its edge tells nothing.

    Parameters
    ----------
    size : float
        Thickest layer, in voxels; of the part of a voxel that is left over, a part is kept.
    """

    def change(self, volume: Tensor) -> Tensor:
        """Draw the thickness and set the layer to 0."""
        whole, rest = divmod(self.size * torch.rand(1).item(), 1.0)
        outside = (volume == 0).float()[None]
        for _ in range(int(whole)):
            outside = functional.max_pool3d(outside, 3, 1, 1)
        thicker = functional.max_pool3d(outside, 3, 1, 1)
        kept = 1 - torch.lerp(outside, thicker, rest)[0]
        return kept.mul_(volume)


def average_neighbours(volumes: Tensor) -> Tensor:
    """Weighted mean (1, 2, 1 along each axis) of each voxel and its neighbours; 0 beyond the edge.

    Parameters
    ----------
    volumes : torch.Tensor of float32 (N, 1, I, J, K)
    """
    line = torch.tensor([0.25, 0.5, 0.25])
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = 3, 1
        volumes = functional.conv3d(volumes, line.reshape(shape), padding=padding)
    return volumes


def bend(volume: Tensor, log_slopes: Tensor) -> Tensor:
    """Pass intensities through a rising curve that begins and ends where they do.

    Parameters
    ----------
    volume : torch.Tensor of float32
        Values of 0 are background and stay.
    log_slopes : torch.Tensor (P,)
        Logarithm of the slope of each piece, before the curve is scaled.
    """
    inside = volume != 0
    values = volume[inside]
    if not len(values) or values.min() == values.max():
        return volume
    low, high = values.min(), values.max()
    steps = log_slopes.exp().numpy()
    curve = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    share = ((values - low) / (high - low)).numpy()
    bent = np.interp(share, np.linspace(0, 1, len(curve)), curve)
    changed = torch.zeros_like(volume)
    changed[inside] = torch.from_numpy(bent).float() * (high - low) + low
    return changed


def normal_noise(shape: torch.Size, seed: int, std: float = 1.0) -> Tensor:
    """Draw normal numbers of mean 0: 65,536 quantiles in random order.

    Half of the time of `torch.randn`, most of it shared among threads, and the same numbers for
    any number of them.
    """
    count = math.prod(shape)
    words = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)
    quantiles = torch.from_numpy(words)[:count].float().add_(0.5).div_(2**15)
    return torch.erfinv(quantiles, out=quantiles).mul_(math.sqrt(2) * std).view(shape)
