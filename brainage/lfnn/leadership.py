"""Adaptive leadership: how many workers lead is read off the distribution of their losses."""

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.99


def indistinguishable_share(losses: Tensor) -> float:
    """Share of workers that the batch cannot tell from the best one.

    A worker counts when its mean loss is within one standard error of the best worker's, the
    standard error being that of the paired difference over the batch:
    ``mean(d) ≤ std(d) / √B`` with ``d = loss − loss of the best``. This is the one-standard-error
    rule of Breiman et al. (1984, Classification and Regression Trees, section 3.4.3), applied to
    workers instead of trees: it is our reading of leadership that adapts to the data. On easy data
    the losses are small and tell workers apart; on hard data they are noisy and more workers are
    as good as the best.

    Parameters
    ----------
    losses : torch.Tensor (B, W)
        Prediction loss of each worker on each sample.

    Returns
    -------
    float
        In [1/W, 1]; the best worker counts. 1 for a batch of one, which tells nothing.
    """
    if losses.shape[0] < 2:
        return 1.0
    best = losses.mean(dim=0).argmin()
    difference = losses - losses[:, best, None]
    standard_error = difference.std(dim=0) / losses.shape[0] ** 0.5
    return float((difference.mean(dim=0) <= standard_error).double().mean())


class AdaptiveLeadership(nn.Module):
    """δ of one block: a running mean of `indistinguishable_share`, of the batches seen alone.

    The weight of the start is divided out, as Adam does with its moments (Kingma & Ba 2015): the
    first batch decides by itself, later ones by a mean over about 100. The state is two buffers,
    so that it is saved with the model and a resumed run goes on with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leader_fraction: Tensor
        self.seen: Tensor
        self.register_buffer("leader_fraction", torch.ones((), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_read_former_mean)

    def update(self, losses: Tensor) -> float:
        """Take in the worker losses (B, W) of a batch; returns δ for that batch."""
        share = indistinguishable_share(losses)
        self.seen.mul_(MOMENTUM).add_(1 - MOMENTUM)
        self.leader_fraction.lerp_(torch.full_like(self.seen, share), (1 - MOMENTUM) / self.seen)
        return float(self.leader_fraction)


def _read_former_mean(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Go on as before with a mean that an earlier version began at 1."""
    if f"{prefix}leader_fraction" in state:
        state.setdefault(f"{prefix}seen", torch.ones((), dtype=torch.float64))
