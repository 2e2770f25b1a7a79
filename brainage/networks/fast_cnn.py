"""A CNN for small images that trains in few epochs; a stage is one convolution.

A whitening stem, three groups of two convolutions, pooling inside each group, filters that begin as
the identity and norms that learn shifts alone, as the networks of the CIFAR-10 speed records (Page
2018, "How to train your ResNet"; Jordan 2024, arXiv 2404.00498).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_FOLLOWING = 0.4
"""Weight of a batch in a norm's statistics for inference."""


class WhiteningStem(nn.Module):
    """Decorrelate the 2×2 patches of an image: (B, C, I, J) to (B, 8·C, I - 1, J - 1).

    Patches are written in the cosine basis of their four places and of their C colours, which is
    close to the principal axes of natural images (Ahmed, Natarajan & Rao 1974), and each
    coefficient is brought to variance 1; coefficients and their negatives follow, cut off at zero.
    It has no weights to learn.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        places, colours = cosine_basis(2), cosine_basis(in_channels)
        patches = torch.einsum("ai,bj->abij", places, places).reshape(4, 2, 2)
        filters = torch.einsum("pij,kc->pkcij", patches, colours)
        self.filters: Tensor
        self.register_buffer("filters", filters.reshape(-1, in_channels, 2, 2).contiguous())
        self.norm = nn.BatchNorm2d(4 * in_channels, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """Whiten."""
        coefficients = self.norm(functional.conv2d(images, self.filters))
        return functional.relu(torch.cat([coefficients, -coefficients], dim=1))


class IdentityConv2d(nn.Conv2d):
    """A convolution whose first filters hand their input on until they have learned.

    >>> convolution = IdentityConv2d(2, 4, 3, padding=1, bias=False)
    >>> maps = torch.rand(1, 2, 5, 5)
    >>> bool(convolution(maps)[:, :2].isclose(maps).all())
    True
    """

    def reset_parameters(self) -> None:
        """Draw the filters that are left over."""
        super().reset_parameters()
        nn.init.dirac_(self.weight[: self.in_channels])


class ShiftNorm(nn.BatchNorm2d):
    """Batch norm that learns shifts alone, 64 times faster than other weights: (B, C, I, J).

    A shift is kept as its eighth: gradient descent then moves it 8 · 8 times as far. The statistics
    kept for inference follow the last few batches.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=_FOLLOWING)
        self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        """Begin without a shift."""
        self.reset_running_stats()
        nn.init.zeros_(self.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise and shift."""
        kept, shift = (self.running_mean, self.running_var), 8 * self.bias
        return functional.batch_norm(maps, *kept, None, shift, self.training, _FOLLOWING, self.eps)


class ReadMaximum(nn.Module):
    """An eighth of the maximum over an image: (B, C, I, J) to (B, C, 1, 1).

    As it is, a maximum is so large that its linear read-out overshoots at the learning rate that
    suits the convolutions (Page 2018 divides the read-out by 8).
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Read."""
        return functional.adaptive_max_pool2d(maps, 1) / 8


def cosine_basis(size: int) -> Tensor:
    """Build the orthonormal cosine basis of vectors of a size: one a row, the mean first."""
    places = torch.arange(size) + 0.5
    rows = torch.cos(math.pi / size * torch.arange(size)[:, None] * places)
    return rows / rows.norm(dim=1, keepdim=True)


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    widths: Sequence[int] = (64, 256, 256),
) -> dict[str, nn.Module]:
    """Stem, then groups of {Conv2d 3 → MaxPool 2 → norm → GELU} and {Conv2d 3 → norm → GELU}.

    The stem is part of the first stage; the last one reads the maximum over what is left of the
    image.

    Parameters
    ----------
    widths : sequence of int
        Channels of each group.
    """
    stages: dict[str, nn.Module] = {}
    channels = 8 * in_channels
    for group, width in enumerate(widths, start=1):
        first: list[nn.Module] = [WhiteningStem(in_channels)] if group == 1 else []
        first += [*_convolution(channels, width, pool=True)]
        stages[f"group{group}_conv1"] = nn.Sequential(*first)
        second = _convolution(width, width, pool=False)
        if group == len(widths):
            second.append(ReadMaximum())
        stages[f"group{group}_conv2"] = nn.Sequential(*second)
        channels = width
    return stages


def _convolution(channels: int, width: int, *, pool: bool) -> list[nn.Module]:
    convolution = IdentityConv2d(channels, width, 3, padding=1, bias=False)
    return [convolution, *([nn.MaxPool2d(2)] if pool else []), ShiftNorm(width), nn.GELU()]
