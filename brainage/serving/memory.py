"""Memory that is no longer used goes back to the system, where the C library is glibc."""

import contextlib
import ctypes
import gc

# Of malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE_BYTES = 2**17


def let_go_of_memory() -> None:
    """Prepare a process of many threads, before it starts them, to become small again.

    Each thread would have an arena of its own, in which what others freed stays. And after the
    first large block was freed, the next would be cut from the heap instead of being mapped.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back_memory() -> None:
    """Return what is no longer used to the system; Python and the C library would keep it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
