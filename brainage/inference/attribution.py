"""What in a scan makes its brain look older or younger to a model, and whether to believe it.

Two maps are contributions in years against a stated reference, the MNI152 template prepared like a
scan: integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365), which add up to the
prediction minus what is predicted of the reference, and occlusion (Zeiler & Fergus 2014), which
puts the reference's tissue in the place of the scan's, cube by cube. SmoothGrad (Smilkov et al.
2017, arXiv 1706.03825) is a gradient in years per standard deviation of intensity: it says what
brightening a voxel would do, not what the voxel does. Computed by Captum. Grad-CAM is not offered:
its map is that of a grid of a few voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from brainage.config import PreprocessingConfig
from brainage.errors import ConfigError
from brainage.model.build import build_model, derive_seed, seeded
from brainage.model.bundle import Bundle
from brainage.model.distribution import fitting_threads, head_outputs, read_ages
from brainage.prepared.arrays import normalise
from brainage.preprocessing.locate import Placement
from brainage.preprocessing.pipeline import Judgement, process_again
from brainage.preprocessing.template import TISSUE_SPACING_MM, load_template
from brainage.types import DEFAULT_MAP, MAP_METHODS, DoubleArray, FloatArray, HalfArray, Volume

UNITS = {
    "integrated_gradients": "years",
    "occlusion": "years",
    "smoothgrad": "years per SD",
}
LEGENDS = {
    "integrated_gradients": ("takes years away", "adds years"),
    "occlusion": ("takes years away", "adds years"),
    "smoothgrad": ("brighter here: younger", "brighter here: older"),
}
"""What values below and above 0 mean, of each method."""

PASSING_SIMILARITY = 0.5

_NOISE_SAMPLES, _NOISE_STD = 16, 0.15
# Steps are doubled until the map adds up to the difference within the tolerance.
_FEWEST_STEPS, _MOST_STEPS, _TOLERANCE_YEARS = 16, 64, 0.5
_PATCH, _STRIDE = 5, 3


@dataclass(frozen=True)
class Explanation:
    """The map of one scan.

    Attributes
    ----------
    attribution : numpy.ndarray of float32 (I, J, K)
        In `UNITS` of the method; see `LEGENDS` for its sign.
    outside_share : float
        Share of the absolute attribution outside the scan's brain.
    predicted_age_years, reference_age_years : float
        What the model predicts of the scan and of the reference. A map of integrated gradients
        adds up to the difference.
    """

    attribution: FloatArray
    outside_share: float
    predicted_age_years: float
    reference_age_years: float


class PredictedAge(nn.Module):
    """Predicted age in years (B,) of volumes (B, 1, I, J, K): `Bundle.predict` with gradients."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.members = bundle.networks
        # Registered, so that they are found by whatever walks through modules.
        self.networks = nn.ModuleList(item.model.eval() for item in self.members)
        self.offset_years = bundle.calibration.offset_years_ if bundle.calibration else 0.0

    def forward(self, volumes: Tensor) -> Tensor:
        """Predict ages in years: (B, 1, I, J, K) to (B,)."""
        differentiates = torch.is_grad_enabled() and volumes.requires_grad
        ages = [
            _AgeWithSlopes.apply(volumes, item) if differentiates else _predict_age(item, volumes)
            for item in self.members
        ]
        return torch.stack(ages).mean(dim=0) - self.offset_years


def _predict_age(item: Bundle, volumes: Tensor) -> Tensor:
    """Predict ages in years (B,) by one network of an ensemble."""
    how = item.config.inference
    outputs = head_outputs(item.model, volumes, how.average_heads, how.mirror)
    return torch.stack([read_ages(item.target, output, how.point) for output in outputs]).mean(0)


class _AgeWithSlopes(Function):
    """Ages of one network, and their gradients at once: graphs of ten would need 0.4 GB."""

    @staticmethod
    def forward(context: Any, volumes: Tensor, item: Bundle) -> Tensor:
        with torch.enable_grad():
            inputs = volumes.detach().requires_grad_()
            ages = _predict_age(item, inputs)
            # An age depends on its own volume alone, so that one sum has all gradients.
            (slopes,) = torch.autograd.grad(ages.sum(), inputs)
        context.save_for_backward(slopes)
        return ages.detach()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slopes,) = context.saved_tensors
        return slopes * gradient.view(-1, *[1] * (slopes.dim() - 1)), None


@lru_cache(maxsize=4)
def load_reference(settings: PreprocessingConfig) -> HalfArray:
    """Prepare the reference of all maps: the MNI152 template as a scan, (I, J, K)."""
    template = load_template(TISSUE_SPACING_MM)
    brain = np.where(template.mask, template.intensity, np.float32(0))
    mask = Volume(template.mask.astype(np.float32), template.affine)
    placement = Placement("prepared brain", mask, np.eye(4))
    judged: Judgement = ("ok", ())
    volume = Volume(brain, template.affine)
    processed = process_again(volume, placement, {}, settings, "template", judged)
    return normalise(processed, settings, "template").array


def explain_scan(
    predict: nn.Module,
    array: HalfArray,
    reference: HalfArray,
    method: str = DEFAULT_MAP,
    seed: int = 0,
) -> Explanation:
    """Map a prepared scan (I, J, K) against a reference of the same shape.

    Parameters
    ----------
    predict : torch.nn.Module
        Takes volumes (B, 1, I, J, K) to ages in years (B,), such as `PredictedAge`.

    Raises
    ------
    ConfigError
        If the method is unknown.
    """
    if method not in MAP_METHODS:
        known = ", ".join(MAP_METHODS)
        raise ConfigError("--method", f"unknown method {method!r}.", f"Known: {known}.")
    volume, baseline = (
        torch.from_numpy(np.asarray(item, dtype=np.float32))[None, None]
        for item in (array, reference)
    )
    with fitting_threads(array.size), seeded(seed, "explain", method):
        with torch.no_grad():
            predicted, from_years = float(predict(volume)), float(predict(baseline))
        if method == "integrated_gradients":
            found = _integrate(predict, volume, baseline, predicted - from_years)
        else:
            found = _attribute(predict, volume, baseline, method)
    attribution = found[0, 0].detach().numpy().astype(np.float32)
    share = outside_share(attribution, array)
    return Explanation(attribution, share, predicted, from_years)


def explain_prepared(
    bundle: Bundle, array: HalfArray, method: str = DEFAULT_MAP, seed: int = 0
) -> Explanation:
    """Map a scan that was prepared for a bundle (I, J, K) against the template."""
    reference = load_reference(bundle.config.preprocessing)
    return explain_scan(PredictedAge(bundle), array, reference, method, seed)


def to_density(attribution: FloatArray, method: str, spacing_mm: float) -> tuple[FloatArray, str]:
    """Return a map with its unit as it is drawn: years of voxels become years per cm³.

    So colours do not depend on the size of the network's voxels.
    """
    if method != "integrated_gradients":
        return attribution, UNITS[method]
    return attribution / np.float32((spacing_mm / 10) ** 3), "years per cm³"


def outside_share(attribution: FloatArray, array: HalfArray) -> float:
    """Share of the absolute attribution where the prepared scan is background (0)."""
    size = np.abs(attribution.astype(np.float64))
    total = float(size.sum())
    return float(size[array == 0].sum() / total) if total > 0 else 0.0


def randomisation_similarity(
    bundle: Bundle, array: HalfArray, method: str = DEFAULT_MAP, seed: int = 0
) -> float:
    """Rank correlation of a map's size with that of a network with random weights, in the brain.

    The sanity check of Adebayo et al. 2018 (arXiv 1810.03292): near 1, the map shows the scan's
    edges, not what the network learned. Compare with `PASSING_SIMILARITY`.
    """
    strangers = []
    for number, item in enumerate(bundle.networks):
        changed = item.config.model_copy(update={"seed": derive_seed(seed, "random", number)})
        strangers.append(replace(item, model=build_model(changed)))
    untrained = replace(strangers[0], members=tuple(strangers))
    inside = array != 0
    first, second = (
        np.abs(explain_prepared(group, array, method, seed).attribution[inside])
        for group in (bundle, untrained)
    )
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def region_table(
    attributions: Sequence[FloatArray], labels: NDArray[np.int64], names: Sequence[str]
) -> pd.DataFrame:
    """Return what each region adds to the predicted age, averaged over scans.

    Parameters
    ----------
    attributions : sequence of numpy.ndarray (I, J, K)
        Maps of N scans on one grid.
    labels : numpy.ndarray of int64 (I, J, K)
        Position in `names` of each voxel's region.

    Returns
    -------
    pandas.DataFrame
        One row a region, largest share first: `region`, `voxels`, `older` (sum of positive
        attribution), `younger` (sum of negative), `net`, and `share` of the absolute attribution.
    """
    flat = labels.ravel()
    count = len(names)
    older, younger = np.zeros(count), np.zeros(count)
    for attribution in attributions:
        values: DoubleArray = attribution.ravel().astype(np.float64)
        older += np.bincount(flat, values.clip(min=0), minlength=count) / len(attributions)
        younger += np.bincount(flat, values.clip(max=0), minlength=count) / len(attributions)
    size = older - younger
    table = pd.DataFrame(
        {
            "region": list(names),
            "voxels": np.bincount(flat, minlength=count),
            "older": older,
            "younger": younger,
            "net": older + younger,
            "share": size / max(float(size.sum()), 1e-12),
        }
    )
    return table.sort_values("share", ascending=False, ignore_index=True)


def _attribute(predict: nn.Module, volume: Tensor, reference: Tensor, method: str) -> Tensor:
    # Captum takes a second to import.
    from captum.attr import NoiseTunnel, Occlusion, Saliency

    result: Tensor
    if method == "smoothgrad":
        result = NoiseTunnel(Saliency(predict)).attribute(
            volume,
            nt_type="smoothgrad",
            nt_samples=_NOISE_SAMPLES,
            nt_samples_batch_size=4,
            stdevs=_NOISE_STD,
            abs=False,
        )
    else:
        window = tuple(min(_PATCH, side) for side in volume.shape[2:])
        steps = tuple(min(_STRIDE, side) for side in window)
        with torch.no_grad():
            result = Occlusion(predict).attribute(
                volume,
                sliding_window_shapes=(1, *window),
                strides=(1, *steps),
                baselines=reference,
                perturbations_per_eval=8,
            )
    return result


def _integrate(
    predict: nn.Module, volume: Tensor, reference: Tensor, difference_years: float
) -> Tensor:
    """Integrate gradients on the straight way from the reference, in steps as fine as it takes.

    Parameters
    ----------
    difference_years : float
        What is predicted of the volume minus what is predicted of the reference.
    """
    from captum.attr import IntegratedGradients

    method: Any = IntegratedGradients(predict)
    steps = _FEWEST_STEPS
    while True:
        found: Tensor = method.attribute(volume, reference, n_steps=steps, internal_batch_size=8)
        left = float(found.sum()) - difference_years
        if abs(left) <= _TOLERANCE_YEARS or steps >= _MOST_STEPS:
            return found
        steps *= 2
