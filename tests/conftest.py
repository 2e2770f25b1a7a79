"""Fixtures that every test may use."""

import gc
import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch

# One thread: tiny tensors gain nothing from two, and threads that wait for each other on a busy
# machine can make a test of one second last minutes. Child processes take the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# No test reaches another machine, nor does a Python process that one starts.
_GUARD = Path(__file__).parent / "guard"
_NOTES = tempfile.TemporaryDirectory(prefix="brainage-guard-")
_CONNECTIONS = Path(_NOTES.name) / "connections.txt"
os.environ["BRAINAGE_TEST_CONNECTIONS"] = str(_CONNECTIONS)
_PATHS = (str(_GUARD), str(_GUARD.parents[1]), os.environ.get("PYTHONPATH", ""))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))
if not hasattr(sys.modules.get("sitecustomize"), "NOTES_VARIABLE"):
    import tests.guard.sitecustomize  # noqa: F401


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage after collection alone, and only among what tests make.

    Collecting imports much and leaves none: the search takes a quarter of its time, and later on
    half a second of each test in which it comes.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def refused_connections() -> Iterator[Path]:
    """File that names connections to other machines; a test in which one is tried fails."""
    yield _CONNECTIONS
    if _CONNECTIONS.exists():
        tried = _CONNECTIONS.read_text()
        _CONNECTIONS.unlink()
        pytest.fail(f"other machines were called:\n{tried}")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets; the test is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("BRAINAGE_DATA", beside))
    if not root.is_dir():
        pytest.skip(f"real data are absent: no folder {root} (set BRAINAGE_DATA)")
    return root


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of this test run, the same in each of its processes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def scan_cache(shared_folder: Path) -> Path:
    """Folder of prepared scans of this test run: a scan is placed once, whatever test needs it.

    It is the default cache of commands too. Tests of the cache itself name another one.
    """
    folder = shared_folder / "cache"
    os.environ["BRAINAGE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def phantom_cohort(shared_folder: Path) -> Path:
    """cohort.csv of 24 synthetic subjects, one scan each, at 4 mm; nothing may be added to it.

    Examples draw phantoms of seed 0 too: the same scans, which are placed once for all.
    """
    # Not at the top: loading the template costs a second that most test files need not pay.
    from brainage.cohorts.phantom import write_phantom_cohort
    from brainage.files import hold_lock

    table = shared_folder / "phantoms" / "cohort.csv"
    with hold_lock(shared_folder / "phantoms.lock"):
        return table if table.exists() else write_phantom_cohort(table.parent, subjects=24, seed=0)
