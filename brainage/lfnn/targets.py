"""What a network predicts: one of several classes, an age as a distribution, an age as a number.

Pure functions of tensors.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from brainage.errors import ConfigError, ShapeError

_SHORT_AXIS = 16


class Target(Protocol):
    """What a network is asked to predict: the width of its outputs, a loss and a read-out."""

    @property
    def outputs(self) -> int:
        """Return the number of outputs C of one worker."""

    @property
    def metric(self) -> str:
        """Name of the score, with its unit."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is a better one."""

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Score of each sample, for its mean: (B, C) and (B,) to (B,)."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each worker on each sample: (B, W, C) and (B,) to (B, W)."""

    def predict(self, outputs: Tensor) -> Tensor:
        """Prediction in the target's unit: (..., C) to (...)."""


@dataclass(frozen=True)
class Classes:
    """One of C classes, with cross-entropy; predicts the class index.

    Attributes
    ----------
    outputs : int
        Number of classes C.
    smoothing : float
        Share of the label that is spread evenly over all classes (Szegedy et al. 2016).

    Examples
    --------
    >>> import torch
    >>> from brainage import lfnn
    >>> lfnn.Classes(3).predict(torch.tensor([[0.1, 2.0, 0.3]]))
    tensor([1])
    """

    outputs: int
    smoothing: float = 0.0
    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.outputs < 2 or not 0 <= self.smoothing < 1:
            problem = f"expected 2 classes or more and a smoothing from 0 to below 1, got {self}."
            raise ConfigError("Classes", problem)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Compute the cross-entropy of each worker: (B, W, C) and (B,) to (B, W)."""
        check_pair(outputs, target, self.outputs)
        _check_whole(target)
        log_probability = class_log_softmax(at_least_float32(outputs))
        index = target.long()[:, None, None].expand(-1, outputs.shape[1], 1)
        loss = -log_probability.gather(-1, index).squeeze(-1)
        if not self.smoothing:
            return loss
        return (1 - self.smoothing) * loss - self.smoothing * log_probability.mean(dim=-1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the index of the likeliest class: (..., C) to (...)."""
        check_width(outputs, self.outputs)
        return outputs.argmax(dim=-1)

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return 1 where the class is right, else 0: (B, C) and (B,) to (B,)."""
        check_pair(outputs[:, None], target, self.outputs)
        return (self.predict(outputs) == target).to(at_least_float32(outputs).dtype)


@dataclass(frozen=True)
class Ages:
    """Age as a distribution over evenly spaced bins (SFCN; Peng et al. 2021).

    Attributes
    ----------
    low_years, high_years : float
        Centres of the first and the last bin.
    outputs : int
        Number of bins C.
    sigma_bins : float
        Standard deviation of the Gaussian soft label, in bins.

    Examples
    --------
    >>> import torch
    >>> from brainage import lfnn
    >>> ages = lfnn.Ages(20, 80, 3)
    >>> ages.predict(torch.tensor([[0.0, 50.0, 0.0]]))
    tensor([50.])
    """

    low_years: float
    high_years: float
    outputs: int = 41
    sigma_bins: float = 1.0
    metric: ClassVar[str] = "mae_years"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_range(self.low_years, self.high_years)
        if self.outputs < 2 or not 0 < self.sigma_bins < math.inf:
            problem = f"expected 2 bins or more and a sigma above 0, got {self}."
            raise ConfigError("Ages", problem)

    def centres(self, like: Tensor) -> Tensor:
        """Return the bin centres in years (C,), in the type and on the device of `like`."""
        return torch.linspace(
            self.low_years, self.high_years, self.outputs, dtype=like.dtype, device=like.device
        )

    def soft_label(self, age_years: Tensor) -> Tensor:
        """Build the Gaussian label over the bins, normalised to sum 1: (B,) to (B, C)."""
        width = (self.high_years - self.low_years) / (self.outputs - 1)
        distance = (self.centres(age_years)[None, :] - age_years[:, None]) / (
            width * self.sigma_bins
        )
        return functional.softmax(-0.5 * distance**2, dim=-1)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Compute the Kullback-Leibler divergence from the label: (B, W, C), (B,) to (B, W)."""
        check_pair(outputs, target, self.outputs)
        outputs = at_least_float32(outputs)
        label = self.soft_label(target.to(outputs.dtype))[:, None, :]
        log_probability = class_log_softmax(outputs)
        return (torch.xlogy(label, label) - label * log_probability).sum(dim=-1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the expected age in years: (..., C) to (...)."""
        check_width(outputs, self.outputs)
        outputs = at_least_float32(outputs)
        return (functional.softmax(outputs, dim=-1) * self.centres(outputs)).sum(dim=-1)

    def median(self, outputs: Tensor) -> Tensor:
        """Return the median of the predicted distribution in years, linear within its bin.

        Shape (..., C) to (...). Where the distribution is skewed, as for a brain that looks young
        but may be middle-aged, the median has the smaller absolute error.
        """
        check_width(outputs, self.outputs)
        outputs = at_least_float32(outputs)
        probability, centres = functional.softmax(outputs, dim=-1), self.centres(outputs)
        width = (self.high_years - self.low_years) / (self.outputs - 1)
        below = probability.cumsum(dim=-1)
        index = (below < 0.5).sum(dim=-1, keepdim=True).clamp(max=self.outputs - 1)
        inside = probability.gather(-1, index)
        share = (0.5 - below.gather(-1, index) + inside) / inside
        return (centres[index] + (share - 0.5) * width).squeeze(-1)

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the absolute error in years: (B, C) and (B,) to (B,)."""
        check_pair(outputs[:, None], target, self.outputs)
        return (self.predict(outputs) - target).abs()

    def spread(self, outputs: Tensor) -> Tensor:
        """Return the standard deviation of the distribution in years: (..., C) to (...)."""
        check_width(outputs, self.outputs)
        outputs = at_least_float32(outputs)
        probability, centres = functional.softmax(outputs, dim=-1), self.centres(outputs)
        deviation = centres - (probability * centres).sum(dim=-1, keepdim=True)
        return (probability * deviation.square()).sum(dim=-1).sqrt()


@dataclass(frozen=True)
class ScalarAge:
    """Age as one number, standardised to [-1, 1] over the training range, with L1 loss.

    The network ends in (B, 1), not in (B,).
    """

    low_years: float
    high_years: float
    outputs: int = field(default=1, init=False)
    metric: ClassVar[str] = "mae_years"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_range(self.low_years, self.high_years)

    @property
    def _centre(self) -> float:
        return 0.5 * (self.low_years + self.high_years)

    @property
    def _half_range(self) -> float:
        return 0.5 * (self.high_years - self.low_years)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Compute the absolute error in half ranges: (B, W, 1) and (B,) to (B, W)."""
        check_pair(outputs, target, self.outputs)
        outputs = at_least_float32(outputs)
        standardised = (target.to(outputs.dtype) - self._centre) / self._half_range
        return (outputs.squeeze(-1) - standardised[:, None]).abs()

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the age in years: (..., 1) to (...)."""
        check_width(outputs, self.outputs)
        return at_least_float32(outputs).squeeze(-1) * self._half_range + self._centre

    def score(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the absolute error in years: (B, 1) and (B,) to (B,)."""
        check_pair(outputs[:, None], target, self.outputs)
        return (self.predict(outputs) - target).abs()


def at_least_float32(outputs: Tensor) -> Tensor:
    """Leave half precision before a loss or an age is taken: its steps at 64 are half a year."""
    return outputs if outputs.dtype.itemsize >= 4 else outputs.float()


def class_log_softmax(outputs: Tensor) -> Tensor:
    """Take the log-softmax over classes: (B, W, C) to (B, W, C).

    A few classes go to the middle for it: over a short last axis torch takes ten times as long on
    a CPU. Age bins stay where they are, since another order of sums would move their last digits.
    """
    if outputs.shape[-1] > _SHORT_AXIS:
        return functional.log_softmax(outputs, dim=-1)
    return functional.log_softmax(outputs.transpose(1, 2), dim=1).transpose(1, 2)


def class_softmax(outputs: Tensor) -> Tensor:
    """Take the softmax over classes: (B, W, C) to (B, W, C), as `class_log_softmax`."""
    if outputs.shape[-1] > _SHORT_AXIS:
        return functional.softmax(outputs, dim=-1)
    return functional.softmax(outputs.transpose(1, 2), dim=1).transpose(1, 2)


def check_width(outputs: Tensor, width: int) -> None:
    """Refuse outputs (..., C) of another width than the target's, which would broadcast.

    Raises
    ------
    ShapeError
        If the last axis is not C long.
    """
    if outputs.ndim == 0 or outputs.shape[-1] != width:
        problem = f"expected shape (..., {width}), got {tuple(outputs.shape)}."
        raise ShapeError("outputs", problem, "The target says how wide the network's output is.")


def check_pair(outputs: Tensor, target: Tensor, width: int) -> None:
    """Refuse outputs and targets whose shapes would broadcast by accident.

    Raises
    ------
    ShapeError
        If outputs are not (B, W, C) or the target is not (B,).
    """
    if outputs.ndim != 3:
        raise ShapeError("outputs", f"expected shape (B, W, C), got {tuple(outputs.shape)}.")
    check_width(outputs, width)
    if target.shape != outputs.shape[:1]:
        raise ShapeError(
            "target",
            f"expected shape ({outputs.shape[0]},), got {tuple(target.shape)}.",
            "Squeeze the target: (B, 1) against (B,) would broadcast to (B, B).",
        )


def _check_whole(labels: Tensor) -> None:
    """Refuse labels with a fraction, which would be cut off: ages, say, given as classes."""
    if labels.is_floating_point() and bool((labels != labels.trunc()).any()):
        raise ShapeError("target", "expected class indices, got numbers with a fraction.")


def _check_range(low_years: float, high_years: float) -> None:
    if not -math.inf < low_years < high_years < math.inf:
        problem = f"expected a low age below the high one, got {low_years} and {high_years}."
        raise ConfigError("low_years", problem)
