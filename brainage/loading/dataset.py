"""Prepared arrays in batches of plain tensors: straight, or by MONAI's loader processes.

Augmentation by the batch in this process is faster than by the scan in others, so `ScanLoader` is
what training uses unless processes are asked for.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from torch import Generator, Tensor

from brainage.errors import ShapeError
from brainage.loading.batches import count_batches, draw_batches
from brainage.types import DoubleArray, FloatArray, HalfArray


def build_dataset(
    arrays: HalfArray,
    ages: DoubleArray | FloatArray | Sequence[float],
    scan_ids: Sequence[str],
    augmentation: Callable[[Tensor], Tensor] | None = None,
) -> Dataset:
    """Pair prepared scans with ages.

    Parameters
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K)
        In memory or memory-mapped; not copied.
    ages : sequence of float (N,)
        Ages at scan in years; NaN where unknown.
    scan_ids : sequence of str (N,)
        Names, kept as `dataset.scan_ids` for messages about a batch.
    augmentation : callable, optional
        From (1, I, J, K) to the same shape, applied anew at each access.

    Returns
    -------
    monai.data.Dataset
        Items ``{"inputs": float32 (1, I, J, K), "target": float32 (), "index": int64 ()}``.

    Raises
    ------
    ShapeError
        If arrays, ages and ids do not count the same scans.
    """
    counts = (len(arrays), len(ages), len(scan_ids))
    if arrays.ndim != 4 or len(set(counts)) != 1:
        problem = f"expected arrays (N, I, J, K) with N ages and ids, got {arrays.shape}, {counts}."
        raise ShapeError("dataset", problem)
    years = torch.as_tensor(np.asarray(ages, dtype=np.float32))

    def load_item(index: int) -> dict[str, Tensor]:
        volume = torch.from_numpy(arrays[index].astype(np.float32))[None]
        return {
            "inputs": volume if augmentation is None else augmentation(volume),
            "target": years[index],
            "index": torch.tensor(index),
        }

    dataset = Dataset(range(len(arrays)), transform=load_item)
    dataset.scan_ids = tuple(scan_ids)
    return dataset


class ScanLoader:
    """Batches straight from the array: one gather and one augmentation a batch.

    Which scans make a batch is decided by `brainage.loading.batches`, as in `build_loader`.

    Parameters
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K)
        In memory or memory-mapped; not copied.
    ages : sequence of float (N,)
        Ages at scan in years; NaN where unknown.
    shuffle : torch.Generator, optional
        Orders the scans anew each time; its state when iteration starts decides.
    augmentation : callable, optional
        From float16 to float32 (B, 1, I, J, K), applied anew to every batch.
    """

    def __init__(
        self,
        arrays: HalfArray,
        ages: DoubleArray | FloatArray | Sequence[float],
        batch_size: int,
        shuffle: Generator | None = None,
        augmentation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if arrays.ndim != 4 or len(arrays) != len(ages):
            problem = f"expected arrays (N, I, J, K), N ages, got {arrays.shape}, {len(ages)}."
            raise ShapeError("dataset", problem)
        self._arrays, self._years = arrays, torch.as_tensor(np.asarray(ages, dtype=np.float32))
        self._batch_size, self._shuffle, self._augmentation = batch_size, shuffle, augmentation

    def __len__(self) -> int:
        trains = self._shuffle is not None
        return count_batches(len(self._arrays), self._batch_size, trains=trains)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index in draw_batches(len(self._arrays), self._batch_size, self._shuffle):
            volumes = torch.from_numpy(self._arrays[index.numpy()])[:, None]
            augment = self._augmentation
            inputs = volumes.float() if augment is None else augment(volumes)
            yield {"inputs": inputs, "target": self._years[index], "index": index}


def build_loader(
    dataset: Dataset,
    batch_size: int,
    shuffle: bool,
    generator: Generator,
    loader_processes: int = 0,
) -> DataLoader:
    """Iterate over a dataset in batches.

    Which scans make a batch is decided by `brainage.loading.batches`.

    Parameters
    ----------
    generator : torch.Generator
        Orders the scans; its state on entry decides, and building the loader does not move it.
    loader_processes : int
        0 loads in this process, which is fastest for arrays held in memory.

    Returns
    -------
    monai.data.DataLoader
        Batches ``{"inputs": float32 (B, 1, I, J, K), "target": float32 (B,),
        "index": int64 (B,)}``.
    """
    # MONAI's loader sets the generator back to its first seed, so that every epoch of a loader
    # built anew, or of a resumed run, would see one and the same order.
    state = generator.get_state()
    loader = DataLoader(
        dataset,
        num_workers=loader_processes,
        batch_size=batch_size,
        shuffle=shuffle,
        generator=generator,
        drop_last=count_batches(len(dataset), batch_size, trains=shuffle)
        < count_batches(len(dataset), batch_size, trains=False),
    )
    generator.set_state(state)
    return loader
