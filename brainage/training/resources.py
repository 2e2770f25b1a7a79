"""Devices, numeric precision and peak memory."""

import contextlib
import ctypes
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from brainage.errors import ConfigError, DeviceMemoryError, TrainingError

# Of malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_LARGE_BYTES, _MANY_BLOCKS = 2**20, 2**16


Item = TypeVar("Item")


class Waited:
    """How long the next batch was waited for.

    Attributes
    ----------
    seconds : float
        In all, since the last iteration began.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def through(self, items: Iterable[Item]) -> Iterator[Item]:
        """Return the same items, timed."""
        self.seconds, start = 0.0, time.perf_counter()
        for item in items:
            self.seconds += time.perf_counter() - start
            yield item
            start = time.perf_counter()
        self.seconds += time.perf_counter() - start


def choose_device(name: str = "auto") -> torch.device:
    """Turn a device name into a device; "auto" takes CUDA where there is one.

    Raises
    ------
    ConfigError
        If the device is unknown or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError("--device", f"{name!r} is not available here.", "Use cpu.") from error
    return device


def build_autocast(
    precision: str, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """Context factory for mixed precision: "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if precision == "float32" or (precision == "auto" and device.type != "cuda"):
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def choose_memory_format(name: str, input_shape: tuple[int, ...]) -> torch.memory_format:
    """Order of values in memory for inputs of a shape (C, I, J), (C, I, J, K) or (C,).

    "contiguous" leaves inputs as they come and weights in the order that the network gave them.
    """
    if name == "contiguous" or len(input_shape) < 3:
        return torch.preserve_format
    return torch.channels_last if len(input_shape) == 3 else torch.channels_last_3d


def keep_freed_memory(device: torch.device) -> None:
    """Let the C library keep what tensors free, for the tensors of the next step.

    By default glibc maps each large tensor anew and gives it back, and the kernel clears every
    page of it again: a fifth of a step on a CPU. Other C libraries are left alone.
    """
    _set_malloc(device, {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def release_freed_memory(device: torch.device) -> None:
    """Have each large tensor mapped on its own and given back when freed; one heap for the rest.

    What `keep_freed_memory` keeps lies in pieces that the next tensors do not fit: twice the
    memory of the tensors themselves.
    """
    mapped = {_M_MMAP_MAX: _MANY_BLOCKS, _M_MMAP_THRESHOLD: _LARGE_BYTES}
    _set_malloc(device, {**mapped, _M_ARENA_MAX: 1})


def _set_malloc(device: torch.device, options: dict[int, int]) -> None:
    if device.type == "cpu":
        with contextlib.suppress(OSError, AttributeError, TypeError):
            library = ctypes.CDLL(None)
            for option, value in options.items():
                library.mallopt(option, value)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_mb`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # Linux only; elsewhere the peak of the process remains
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory since the last reset: resident set on CPU, allocated tensors on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return float(psutil.Process().memory_info().rss) / 2**20


@contextlib.contextmanager
def explain_loop_errors() -> Iterator[None]:
    """Tell in one line what torch says in many: a lost loader process, a batch of one sample.

    Raises
    ------
    TrainingError
        Instead of torch's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            "training.loader_processes",
            "a process that loads scans was lost, most likely for want of memory.",
            "Go on with --resume; with training.loader_processes=0 there is none to lose.",
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            "training.batch_size",
            "batch normalisation cannot learn from a batch of one sample.",
            "Train on two or more samples, in batches of two or more.",
        ) from error


@contextlib.contextmanager
def explain_memory_errors(batch_size: int, shape: tuple[int, ...]) -> Iterator[None]:
    """Turn an out-of-memory error into one line that says which settings to lower.

    Raises
    ------
    DeviceMemoryError
        Instead of torch's own error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise DeviceMemoryError(
            "training",
            f"out of memory with training.batch_size {batch_size} and inputs of {shape}.",
            f"Lower --batch-size to {max(1, batch_size // 2)}; for scans, raise "
            "preprocessing.spacing_mm and shrink preprocessing.shape.",
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "allocate memory" in text or "out of memory" in text or "not enough memory" in text
