"""A first step for any network: inputs of unit amplitude."""

import torch
from torch import Tensor, nn

_TINY = 1e-6


class UnitAmplitude(nn.Module):
    """Divide each input by the mean size of its values that are not 0.

    So neither the strength of a scan's contrast nor what mixing two scans does to it is left to
    decide the output.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale inputs (B, C, ...), each by itself."""
        axes = tuple(range(1, inputs.ndim))
        sizes = inputs.abs().sum(dim=axes, keepdim=True)
        counts = torch.count_nonzero(inputs.flatten(1), dim=1).clamp_min(1).view_as(sizes)
        return inputs * (counts / sizes.clamp_min(_TINY))
