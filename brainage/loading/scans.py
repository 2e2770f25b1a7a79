"""Make batches of prepared scans and ages."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from brainage.config import Config
from brainage.errors import ShapeError
from brainage.loading.dataset import Batch, BatchLoader
from brainage.types import DoubleArray, FloatArray, HalfArray

COPY_PROBABILITY = 0.5
"""How often a copy as a stranger might send it takes a training scan's place."""


class PreparedScans:
    """Prepared scans with ages, read by the batch.

    Parameters
    ----------
    arrays : numpy.ndarray of float16 (N, I, J, K) or (N, copies, I, J, K)
        In memory or memory-mapped; not copied. Of copies, one is drawn where samples have seeds:
        the first, the scan as it is, as often as all others together; else it is the first.
    ages : sequence of float (N,)
        Ages at scan in years; NaN where unknown.

    Raises
    ------
    ShapeError
        If arrays and ages do not count the same scans.
    """

    def __init__(self, arrays: HalfArray, ages: DoubleArray | FloatArray | Sequence[float]) -> None:
        if arrays.ndim not in (4, 5) or len(arrays) != len(ages):
            problem = f"expected arrays (N, I, J, K), N ages, got {arrays.shape}, {len(ages)}."
            raise ShapeError("dataset", problem)
        self._arrays, self._years = arrays, torch.as_tensor(np.asarray(ages, dtype=np.float32))

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, draw: Batch) -> Batch:
        index = draw["index"]
        rows = index.numpy()
        has_copies = self._arrays.ndim == 5
        scans = self._arrays[rows, self._choose_copies(draw)] if has_copies else self._arrays[rows]
        volumes = torch.from_numpy(scans)[:, None]
        return {**draw, "inputs": volumes, "target": self._years[index]}

    def _choose_copies(self, draw: Batch) -> NDArray[np.intp]:
        """Which copy of each sample (B,), by its seed."""
        chosen = np.zeros(len(draw["index"]), np.intp)
        for row, seed in enumerate(draw["seeds"].tolist() if "seeds" in draw else ()):
            generator = np.random.default_rng(seed)
            if generator.random() < COPY_PROBABILITY:
                chosen[row] = generator.integers(1, self._arrays.shape[1])
        return chosen


def build_scan_loader(
    arrays: HalfArray,
    ages: DoubleArray | FloatArray | Sequence[float],
    config: Config,
    shuffle: Generator | None = None,
    *,
    augments: bool = False,
) -> BatchLoader:
    """Build batches of inputs (B, 1, I, J, K) and ages (B,) in years; see `BatchLoader`.

    Parameters
    ----------
    shuffle : torch.Generator, optional
        Orders the scans anew each time, and leaves out a last batch of one.
    augments : bool
        Whether scans are changed at random, as ``config.augmentation`` says.

    Raises
    ------
    ConfigError
        If a transform that the settings name is none.

    Examples
    --------
    >>> import numpy as np
    >>> from brainage.config import load_preset
    >>> arrays = np.zeros((3, 8, 8, 8), np.float16)
    >>> loader = build_scan_loader(arrays, [20.0, 40.0, 60.0], load_preset("phantom"))
    >>> [tuple(batch["inputs"].shape) for batch in loader]
    [(3, 1, 8, 8, 8)]
    """
    scans, training = PreparedScans(arrays, ages), config.training
    if not augments:
        return BatchLoader(scans, to_float, training.batch_size, shuffle)
    # TorchIO takes seconds to import.
    from brainage.loading.augment import Augmentation

    return BatchLoader(
        scans,
        Augmentation(config.augmentation, config.preprocessing),
        training.batch_size,
        shuffle,
        is_random=True,
        processes=training.loader_processes,
    )


def to_float(batch: Batch) -> Batch:
    """Leave a batch as it is, in single precision."""
    return {**batch, "inputs": batch["inputs"].float()}
