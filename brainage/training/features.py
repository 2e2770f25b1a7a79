"""Outputs of frozen blocks, stored so that later blocks train without running what is before them.

A store holds several augmented variants of each training scan; an epoch draws one for each scan.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from brainage.errors import StoreError, TrainingError
from brainage.files import reserve
from brainage.loading.batches import count_batches, draw_batches
from brainage.types import HalfArray

# Stores above this are memory-mapped from a file.
MEMORY_BOUND_BYTES = 2**31
_HALF_MAX = float(np.finfo(np.float16).max)

Batch = dict[str, Tensor]


@dataclass
class FeatureStore:
    """Variants of the training scans, as some block gives them out.

    Attributes
    ----------
    features : numpy.ndarray of float16 (V, N, C, ...)
        In memory, or memory-mapped where it would be larger than `MEMORY_BOUND_BYTES`.
    target : torch.Tensor (N,)
        Ages in years, or classes.
    """

    features: HalfArray
    target: Tensor

    def gather(self, variants: Tensor, index: Tensor) -> Batch:
        """Read a batch of float32 features (B, C, ...): variant `variants[b]` of `index[b]`."""
        taken = self.features[variants.numpy(), index.numpy()]
        return {
            "inputs": torch.from_numpy(taken).float(),
            "target": self.target[index],
            "index": index,
        }

    def in_order(self, variant: int, batch_size: int) -> Iterator[Batch]:
        """All scans of one variant, in their own order."""
        for index in torch.arange(len(self.target)).split(batch_size):
            yield self.gather(torch.full_like(index, variant), index)


class StoredLoader:
    """Batches of stored features: scans in random order, a random variant of each.

    Parameters
    ----------
    shuffle : torch.Generator
        Orders scans and draws variants; its state when iteration starts decides.
    """

    def __init__(self, store: FeatureStore, batch_size: int, shuffle: Generator) -> None:
        self._store, self._batch_size, self._shuffle = store, batch_size, shuffle

    def __len__(self) -> int:
        return count_batches(len(self._store.target), self._batch_size, trains=True)

    def __iter__(self) -> Iterator[Batch]:
        variants, count = self._store.features.shape[:2]
        batches = draw_batches(count, self._batch_size, self._shuffle)
        drawn = torch.randint(variants, (count,), generator=self._shuffle)
        for index in batches:
            yield self._store.gather(drawn[index], index)


def fill_store(
    batches_of: Callable[[int], Iterable[Batch]],
    run: Callable[[Tensor], Tensor],
    *,
    variants: int,
    scans: int,
    feature_shape: tuple[int, ...],
    folder: Path | None = None,
    memory_bound_bytes: int = MEMORY_BOUND_BYTES,
) -> FeatureStore:
    """Run every scan of every variant through a block, once.

    Parameters
    ----------
    batches_of : callable
        From the number of a variant to its batches, whose ``index`` says which scans they hold.
    run : callable
        From inputs (B, ...) to features (B, *feature_shape).
    folder : pathlib.Path, optional
        Where a large store is mapped; absent: the system's temporary folder.

    Raises
    ------
    TrainingError
        If a feature does not fit half precision, or a variant lacks a scan.
    StoreError
        If a large store cannot be written.
    """
    shape = (variants, scans, *feature_shape)
    features = _allocate(shape, folder, memory_bound_bytes)
    target: Tensor | None = None
    for variant in range(variants):
        seen = torch.zeros(scans, dtype=torch.bool)
        for batch in batches_of(variant):
            given, index = run(batch["inputs"]).float(), batch["index"]
            least, greatest = given.aminmax()  # one pass; NaN if any is
            if not (least >= -_HALF_MAX and greatest <= _HALF_MAX):
                raise TrainingError(
                    "learning.schedule",
                    "features of a frozen block do not fit half precision.",
                    "Lower training.learning_rate, or use schedule: sequential.",
                )
            features[variant, index.numpy()] = given.cpu().half().numpy()
            if target is None:
                target = torch.zeros(scans, dtype=batch["target"].dtype)
            target[index] = batch["target"].cpu()
            seen[index] = True
        if not bool(seen.all()):
            missing = int((~seen).sum())
            raise TrainingError("learning.schedule", f"a stored variant lacks {missing} samples.")
    assert target is not None
    return FeatureStore(features, target)


def _allocate(shape: tuple[int, ...], folder: Path | None, bound: int) -> HalfArray:
    if 2 * int(np.prod(shape)) <= bound:
        return np.empty(shape, np.float16)
    try:
        # Unlinked as soon as it is mapped: a killed run leaves nothing behind.
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".features") as file:
            reserve(file.fileno(), 2 * int(np.prod(shape)))
            return np.memmap(file, dtype=np.float16, mode="w+", shape=shape)
    except OSError as error:
        raise StoreError(
            str(folder or tempfile.gettempdir()),
            f"features of {2 * int(np.prod(shape)) / 2**30:.1f} GiB cannot be stored "
            f"({error.strerror}).",
            "Free disk space, or lower learning.stored_variants.",
        ) from error
