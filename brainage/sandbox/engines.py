"""Where tasks run: one child, several children, or the children of dask workers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from brainage.errors import BrainageError, ConfigError
from brainage.extras import check_extra
from brainage.sandbox.parent import Children, Limits, Outcome
from brainage.types import Json

EngineKind = Literal["serial", "processes", "dask"]
CONNECT_TIMEOUT_S = 30
# A worker that cannot start a child may be a sick machine: the task goes to another one.
RETRIES = 3


@dataclass(frozen=True)
class Engine:
    """How tasks are run.

    Attributes
    ----------
    kind : {"serial", "processes", "dask"}
        One task after another, `jobs` at a time on this machine, or on the workers of a
        dask.distributed scheduler. Each task has a child process in any case.
    scheduler : str, optional
        Address for dask, such as tcp://10.0.0.1:8786.
    """

    kind: EngineKind = "serial"
    jobs: int = 1
    scheduler: str | None = None
    limits: Limits = field(default_factory=Limits)


def run_tasks(
    function: str, arguments: Sequence[Json], engine: Engine
) -> Iterator[tuple[int, Outcome]]:
    """Run a function on many arguments, and yield (position, outcome) as they come.

    Parameters
    ----------
    function : str
        ``module:name`` of a function from a JSON object to a JSON object, importable wherever
        the tasks run.
    arguments : sequence of dict
        One for each task.

    Raises
    ------
    ConfigError
        If the scheduler is not given or cannot be reached, or dask is not installed.
    BrainageError
        If the scheduler is lost; what was finished is not.
    """
    if engine.kind == "dask":
        yield from _run_on_dask(function, arguments, engine)
    else:
        jobs = engine.jobs if engine.kind == "processes" else 1
        yield from _run_here(function, arguments, jobs, engine.limits)


def _run_here(
    function: str, arguments: Sequence[Json], jobs: int, limits: Limits
) -> Iterator[tuple[int, Outcome]]:
    with closing(Children(limits)) as children, ThreadPoolExecutor(max_workers=jobs) as threads:
        futures = {
            threads.submit(children.run, function, argument): position
            for position, argument in enumerate(arguments)
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            # After Ctrl-C nothing new begins, and what runs is stopped rather than awaited.
            threads.shutdown(wait=False, cancel_futures=True)
            children.close()


def _run_on_dask(
    function: str, arguments: Sequence[Json], engine: Engine
) -> Iterator[tuple[int, Outcome]]:
    from concurrent.futures import CancelledError

    check_extra("distributed", "cluster")
    from distributed import Client, KilledWorker
    from distributed import as_completed as as_finished

    from brainage.sandbox.dask_worker import ChildrenPlugin, run_on_worker

    if engine.scheduler is None:
        raise ConfigError("--scheduler", "is needed by --engine dask.", "Give tcp://HOST:PORT.")
    try:
        client = Client(engine.scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        problem = f"no dask scheduler answers at {engine.scheduler}."
        raise ConfigError("--scheduler", problem, "Check address and port.") from error
    with client:
        client.register_plugin(ChildrenPlugin(engine.limits))
        futures = {
            client.submit(run_on_worker, function, argument, pure=False, retries=RETRIES): position
            for position, argument in enumerate(arguments)
        }
        for future in as_finished(futures, loop=client.loop):
            try:
                yield futures[future], future.result()
            except KilledWorker:
                problem = "dask worker after dask worker died while it ran"
                yield futures[future], Outcome(None, problem, 0.0)
            except (CancelledError, OSError) as error:
                remedy = "Run the command again: finished scans are kept."
                raise BrainageError(engine.scheduler, "the scheduler was lost.", remedy) from error
