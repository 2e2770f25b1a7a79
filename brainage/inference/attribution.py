"""What in a scan makes its brain look older or younger to a network, and whether to believe it.

Maps are signed: above 0 where a voxel raises the predicted age. SmoothGrad (Smilkov et al. 2017,
arXiv 1706.03825) is a gradient, in years per standard deviation of intensity; integrated gradients
(Sundararajan et al. 2017, arXiv 1703.01365) and occlusion (Zeiler & Fergus 2014) are in years.
Computed by Captum. Grad-CAM is not offered: its map is that of a grid of a few voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.targets import Target
from brainage.model.build import build_model, derive_seed, seeded
from brainage.model.bundle import Bundle
from brainage.types import MAP_METHODS, DoubleArray, FloatArray, HalfArray

UNITS = {
    "smoothgrad": "years per SD",
    "integrated_gradients": "years",
    "occlusion": "years",
}
PASSING_SIMILARITY = 0.5

_NOISE_SAMPLES, _NOISE_STD = 16, 0.15
_INTEGRATION_STEPS = 32
_PATCH, _STRIDE = 5, 3


@dataclass(frozen=True)
class Explanation:
    """The map of one scan.

    Attributes
    ----------
    attribution : numpy.ndarray of float32 (I, J, K)
        Above 0: older; in `UNITS` of the method.
    outside_share : float
        Share of the absolute attribution outside the scan's brain; 0 by construction with
        integrated gradients, whose baseline equals the background.
    """

    attribution: FloatArray
    outside_share: float


class _AgeOf(nn.Module):
    """Predicted age in years (B,) of volumes (B, 1, I, J, K)."""

    def __init__(self, model: BlockStack, target: Target) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, volumes: Tensor) -> Tensor:
        return self.target.predict(self.model(volumes))


def explain_scan(
    networks: Sequence[tuple[BlockStack, Target]],
    array: HalfArray,
    method: str = "smoothgrad",
    seed: int = 0,
) -> Explanation:
    """Map of a prepared scan (I, J, K), averaged over an ensemble's networks.

    Raises
    ------
    ConfigError
        If the method is unknown.
    """
    if method not in MAP_METHODS:
        known = ", ".join(MAP_METHODS)
        raise ConfigError("--method", f"unknown method {method!r}.", f"Known: {known}.")
    volume = torch.from_numpy(np.asarray(array, dtype=np.float32))[None, None]
    maps = []
    for model, target in networks:
        with seeded(seed, "explain", method):
            maps.append(_attribute(_AgeOf(model.eval(), target), volume, method))
    attribution = np.mean(maps, axis=0).astype(np.float32)
    return Explanation(attribution, outside_share(attribution, array))


def outside_share(attribution: FloatArray, array: HalfArray) -> float:
    """Share of the absolute attribution where the prepared scan is background (0)."""
    size = np.abs(attribution.astype(np.float64))
    total = float(size.sum())
    return float(size[array == 0].sum() / total) if total > 0 else 0.0


def randomisation_similarity(
    bundle: Bundle, array: HalfArray, method: str = "smoothgrad", seed: int = 0
) -> float:
    """Rank correlation of a map's size with that of a network with random weights, in the brain.

    The sanity check of Adebayo et al. 2018 (arXiv 1810.03292): near 1, the map shows the scan's
    edges, not what the network learned. Compare with `PASSING_SIMILARITY`.
    """
    networks = networks_of(bundle)
    strangers = []
    for number, item in enumerate(bundle.networks):
        changed = item.config.model_copy(update={"seed": derive_seed(seed, "random", number)})
        strangers.append((build_model(changed), item.target))
    inside = array != 0
    first, second = (
        np.abs(explain_scan(group, array, method, seed).attribution[inside])
        for group in (networks, strangers)
    )
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def networks_of(bundle: Bundle) -> list[tuple[BlockStack, Target]]:
    """Networks of a bundle or ensemble with their targets."""
    return [(item.model, item.target) for item in bundle.networks]


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


def _attribute(forward: nn.Module, volume: Tensor, method: str) -> FloatArray:
    # Captum takes a second to import.
    from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency

    result: Any
    if method == "smoothgrad":
        result = NoiseTunnel(Saliency(forward)).attribute(
            volume,
            nt_type="smoothgrad",
            nt_samples=_NOISE_SAMPLES,
            nt_samples_batch_size=4,
            stdevs=_NOISE_STD,
            abs=False,
        )
    elif method == "integrated_gradients":
        # From a brain of mean intensity everywhere, which is 0 after normalisation.
        result = IntegratedGradients(forward).attribute(
            volume, n_steps=_INTEGRATION_STEPS, internal_batch_size=4
        )
    else:
        window = tuple(min(_PATCH, side) for side in volume.shape[2:])
        steps = tuple(min(_STRIDE, side) for side in window)
        with torch.no_grad():
            result = Occlusion(forward).attribute(
                volume, sliding_window_shapes=(1, *window), strides=(1, *steps), baselines=0.0
            )
    attribution: FloatArray = result[0, 0].detach().numpy().astype(np.float32)
    return attribution
