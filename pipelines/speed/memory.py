"""Bytes that a training step needs, counted tensor by tensor: exact on a busy machine too."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class SavedBytes:
    """Count what a graph holds: every storage once, for as long as something keeps it.

    Attributes
    ----------
    held, peak : int
        Bytes held now, and the largest sum held at one time.
    """

    def __init__(self) -> None:
        self.held = self.peak = 0
        self._users: Counter[int] = Counter()

    def keep(self, tensor: Tensor) -> "_Kept":
        """Count one more saved tensor until it is dropped."""
        kept, storage = _Kept(tensor.detach()), tensor.untyped_storage()
        pointer, size = storage.data_ptr(), storage.nbytes()
        self.held += 0 if self._users[pointer] else size
        self.peak = max(self.peak, self.held)
        self._users[pointer] += 1
        weakref.finalize(kept, self._drop, pointer, size)
        return kept

    def _drop(self, pointer: int, size: int) -> None:
        self._users[pointer] -= 1
        self.held -= 0 if self._users[pointer] else size


@dataclass(eq=False)
class _Kept:
    """A saved tensor whose end is counted."""

    tensor: Tensor


@contextmanager
def count_saved_bytes(excluded: Iterable[Tensor] = ()) -> Iterator[SavedBytes]:
    """Count what graphs built inside keep for the backward pass.

    Parameters
    ----------
    excluded : iterable of torch.Tensor
        Held anyway, such as weights and the batch.
    """
    saved = SavedBytes()
    known = {tensor.untyped_storage().data_ptr() for tensor in excluded}

    def pack(tensor: Tensor) -> Tensor | _Kept:
        is_known = tensor.untyped_storage().data_ptr() in known or tensor.numel() == 0
        return tensor if is_known else saved.keep(tensor)

    def unpack(kept: Tensor | _Kept) -> Tensor:
        return kept.tensor if isinstance(kept, _Kept) else kept

    with saved_tensors_hooks(pack, unpack):
        yield saved


class LiveBytes(TorchDispatchMode):
    """Count the bytes of all tensors that are made inside and still alive.

    Other than saved tensors, this sees what a checkpoint computes anew, gradients, and what lives
    only between two operations; not the work space inside one.

    Attributes
    ----------
    peak : int
        Largest sum of bytes alive at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and take its results into account."""
        inside = {id(t.untyped_storage()) for t in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in inside and storage not in self._known:
                size = storage.nbytes()
                self._known[storage] = size
                weakref.finalize(storage, self._drop, size)
                self._held += size
        self.peak = max(self.peak, self._held)
        return result

    def _drop(self, size: int) -> None:
        self._held -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def resident_mb() -> float:
    """Measure this process's memory now, after giving free pages back where the C library can."""
    import ctypes
    import gc

    import psutil

    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    return float(psutil.Process().memory_info().rss) / 2**20


def allocated_mb(device: torch.device) -> float:
    """Measure what is held now, as `brainage.training.resources.peak_memory_mb` does."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return resident_mb()
