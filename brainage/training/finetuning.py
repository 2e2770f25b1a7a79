"""Train a finished network's read-out further, on a few scans of one's own."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.targets import Target
from brainage.types import DoubleArray, HalfArray

LEARNING_RATE, MOST_STEPS, PATIENCE = 1e-3, 200, 20
VALIDATION_SHARE = 0.25


@torch.no_grad()
def read_features(model: BlockStack, arrays: HalfArray) -> Tensor:
    """Features that the output head reads, of scans (N, I, J, K) and of their mirror images.

    Returns
    -------
    torch.Tensor of float32 (2, N, ...)
    """
    model.eval()
    volumes = torch.from_numpy(np.asarray(arrays, dtype=np.float32))[:, None]
    both = []
    for inputs in (volumes, volumes.flip(2)):
        parts = []
        for features in inputs.split(8):
            for index in range(len(model)):
                features = model[index].body(features)
            parts.append(features)
        both.append(torch.cat(parts))
    return torch.stack(both)


def finetune_head(
    model: BlockStack,
    target: Target,
    features: Tensor,
    age_years: DoubleArray,
    seed: int = 0,
) -> BlockStack:
    """Train a copy of the output head on features; blocks and batch statistics stay as they are.

    A quarter of the scans is kept aside: the head of the step with the smallest loss on them is
    kept, the untouched one among them, and training ends `PATIENCE` steps after it.

    Parameters
    ----------
    features : torch.Tensor of float32 (2, N, ...)
        `read_features` of the training scans.
    age_years : numpy.ndarray of float64 (N,)
    seed : int
        Chooses the scans that are kept aside.

    Returns
    -------
    BlockStack
        The network with the new head; the one that was given stays as it is.
    """
    tuned = copy.deepcopy(model).eval()
    last = len(tuned) - 1
    head = tuned[last].head
    assert head is not None
    ages = torch.as_tensor(age_years, dtype=torch.float32)
    order = np.random.default_rng(seed).permutation(len(ages))
    kept = max(1, round(VALIDATION_SHARE * len(ages)))
    aside, own = order[:kept], order[kept:]

    def loss(part: NDArray[np.intp]) -> Tensor:
        outputs = tuned.read_out(last, features[:, part].flatten(0, 1))
        return target.loss(outputs, ages[part].repeat(2)).mean()

    optimizer = Adam(head.parameters(), lr=LEARNING_RATE)
    best, best_state, waited = float("inf"), copy.deepcopy(head.state_dict()), 0
    for _ in range(MOST_STEPS):
        with torch.no_grad():
            now = float(loss(aside))
        if now < best:
            best, best_state, waited = now, copy.deepcopy(head.state_dict()), 0
        elif (waited := waited + 1) > PATIENCE:
            break
        optimizer.zero_grad()
        loss(own).backward()
        optimizer.step()
    head.load_state_dict(best_state)
    return tuned
