"""Mixup: batches of pairs of scans."""

import torch
from torch import Tensor


def mix_batch(volumes: Tensor, ages: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix every scan and its age with another of the batch (mixup; Zhang et al. 2018).

    One share λ ~ Beta(α, α) a batch, λ ≥ ½, from torch's global generator;
    α = 0 changes nothing and draws nothing.

    Parameters
    ----------
    volumes : torch.Tensor (B, 1, I, J, K)
    ages : torch.Tensor (B,)
        Years.
    """
    if alpha == 0:
        return volumes, ages
    drawn = torch.distributions.Beta(alpha, alpha).sample()
    share = float(torch.maximum(drawn, 1 - drawn))
    other = torch.randperm(len(ages)).to(ages.device)
    mixed_ages = share * ages + (1 - share) * ages[other]
    return share * volumes + (1 - share) * volumes[other], mixed_ages
