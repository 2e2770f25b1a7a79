"""MONAI's Dataset and DataLoader over whole batches, with the same numbers from any process.

An item of the dataset is a batch. Which samples make it, and from which seeds they are changed, is
drawn in the training process; then any process can make it. Plain tensors travel: MONAI's own
carry a history that slows every operation down.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import monai.data
import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from brainage.errors import BrainageError
from brainage.loading.batches import count_batches, draw_batches

Batch = dict[str, Tensor]


class Samples(Protocol):
    """Samples that are read by the batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, draw: Batch) -> Batch:
        """Add "inputs" and "target" of the samples at ``draw["index"]`` (B,) to what is drawn."""


class BatchDataset(monai.data.Dataset):
    """A dataset whose items are batches: samples, and a transform from batch to batch."""

    def __getitem__(self, draw: Batch) -> Batch | BrainageError:
        """Make a batch; an error of ours is handed over, since no process can raise it whole."""
        try:
            return {
                name: value for name, value in super().__getitem__(draw).items() if name != "seeds"
            }
        except BrainageError as error:
            return error
        except RuntimeError as error:  # as MONAI wraps what a transform raises
            if isinstance(error.__cause__, BrainageError):
                return error.__cause__
            raise


class BatchLoader(monai.data.DataLoader):
    """Batches {"inputs": float32 (B, C, ...), "target": (B,), "index": int64 (B,)}.

    Which samples make a batch is decided by `brainage.loading.batches`.

    Parameters
    ----------
    transform : callable
        From batch to batch; finds "seeds" (B,) in it where `is_random`.
    shuffle : torch.Generator, optional
        Orders the samples anew each time; its state when iteration starts decides.
    is_random : bool
        Each sample has a seed, drawn from torch's global generator when iteration starts.
    processes : int
        0 loads in this process.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Callable[[Batch], Batch],
        batch_size: int,
        shuffle: Generator | None = None,
        *,
        is_random: bool = False,
        processes: int = 0,
    ) -> None:
        super().__init__(
            BatchDataset(samples, [transform]),
            num_workers=processes,
            sampler=_Draws(len(samples), batch_size, shuffle, is_random),
            batch_size=None,
            collate_fn=_as_it_is,
            # MONAI and torch draw from it; nothing of ours follows from what they draw.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Batch]:
        """Make all batches once.

        Raises
        ------
        BrainageError
            As the samples or the transform raised it.
        """
        for batch in super().__iter__():
            if isinstance(batch, BrainageError):
                raise batch
            yield batch


class _Draws(Sampler[Batch]):
    def __init__(self, count: int, size: int, shuffle: Generator | None, is_random: bool) -> None:
        self._count, self._size, self._shuffle, self._is_random = count, size, shuffle, is_random

    def __len__(self) -> int:
        return count_batches(self._count, self._size, trains=self._shuffle is not None)

    def __iter__(self) -> Iterator[Batch]:
        # All at once: what training draws between batches must not matter.
        seeds = torch.randint(2**63 - 1, (self._count,)) if self._is_random else None
        for index in draw_batches(self._count, self._size, self._shuffle):
            yield {"index": index} if seeds is None else {"index": index, "seeds": seeds[index]}


def _as_it_is(batch: Batch) -> Batch:
    return batch
