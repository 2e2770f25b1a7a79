"""Fix the number of threads, so that a scan gives the same bits on every machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums over threads depend on their number, and so would the result.

    SimpleITK's number is global and stays: N4's inner filters follow it, whatever the filter
    itself was told. BLAS has its own number back afterwards.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with threadpool_limits(limits=1, user_api="blas"):
        yield
