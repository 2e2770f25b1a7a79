"""MONAI's Dataset and DataLoader over whole batches, with the same numbers from any process.

An item of the dataset is a batch. Which samples make it, and from which seeds they are changed, is
drawn in the training process; then any process can make it. Plain tensors travel: MONAI's own
carry a history that slows every operation down.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import monai.data
import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from brainage.errors import BrainageError
from brainage.loading.batches import count_batches, draw_batches

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """Which samples make a batch.

    Attributes
    ----------
    positions : torch.Tensor of int64 (B,)
    seeds : torch.Tensor of int64 (B,), optional
        Of each sample's random changes.
    """

    positions: Tensor
    seeds: Tensor | None


class Samples(Protocol):
    """Samples that are read by the batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor) -> Batch:
        """Batch {"inputs", "target", "index"} of the samples at these positions."""


class BatchDataset(monai.data.Dataset):
    """Batches of samples, changed by a transform from batch to batch.

    Parameters
    ----------
    transform : callable
        Gets ``"seeds"`` (B,) beside what the samples give, where there are any.
    """

    def __init__(self, samples: Samples, transform: Callable[[Batch], Batch]) -> None:
        super().__init__(samples, [transform])

    def __getitem__(self, draw: Draw) -> Batch | BrainageError:
        """Make a batch; an error of ours is handed over, since no process can raise it whole."""
        try:
            batch = self.data[draw.positions]
            if draw.seeds is not None:
                batch["seeds"] = draw.seeds
            changed = self.transform(batch)
            changed.pop("seeds", None)
            return changed
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
        See `BatchDataset`.
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
            BatchDataset(samples, transform),
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


class _Draws(Sampler[Draw]):
    def __init__(
        self, count: int, batch_size: int, shuffle: Generator | None, is_random: bool
    ) -> None:
        self._count, self._batch_size = count, batch_size
        self._shuffle, self._is_random = shuffle, is_random

    def __len__(self) -> int:
        return count_batches(self._count, self._batch_size, trains=self._shuffle is not None)

    def __iter__(self) -> Iterator[Draw]:
        # All at once: what training draws between batches must not matter.
        seeds = torch.randint(2**63 - 1, (self._count,)) if self._is_random else None
        for positions in draw_batches(self._count, self._batch_size, self._shuffle):
            yield Draw(positions, None if seeds is None else seeds[positions])


def _as_it_is(batch: Batch) -> Batch:
    return batch
