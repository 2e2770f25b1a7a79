"""Which samples make a batch: one rule for scans, images and stored features."""

import torch
from torch import Generator, Tensor


def count_batches(count: int, batch_size: int, *, trains: bool) -> int:
    """Return number of batches of `count` samples.

    While training, a last batch of a single sample is left out, because batch normalisation
    cannot learn from one; every other batch is kept, and so is an only one.
    """
    batches, rest = divmod(count, batch_size)
    drops = trains and rest == 1 and batches > 0
    return batches if drops or rest == 0 else batches + 1


def draw_batches(count: int, batch_size: int, shuffle: Generator | None) -> list[Tensor]:
    """Positions (B,) of the samples of each batch, in order or shuffled by a generator.

    A loader that shuffles is one that trains: see `count_batches`.
    """
    order = torch.arange(count) if shuffle is None else torch.randperm(count, generator=shuffle)
    batches = count_batches(count, batch_size, trains=shuffle is not None)
    return list(order.split(batch_size)[:batches])
