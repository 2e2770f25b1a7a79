"""The side of a dask worker: its children live as long as it does."""

from distributed import Worker, WorkerPlugin, get_worker

from brainage.sandbox.parent import Children, Limits, Outcome
from brainage.types import Json

PLUGIN = "brainage-children"


class ChildrenPlugin(WorkerPlugin):
    """Children of a worker, ended with it."""

    name = PLUGIN

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.children: Children | None = None

    def setup(self, worker: Worker) -> None:
        """Start on each worker; dask calls it, also on those that join later."""
        self.children = Children(self._limits)

    def teardown(self, worker: Worker) -> None:
        """End with the worker; dask calls it."""
        if self.children is not None:
            self.children.close()


def run_on_worker(function: str, argument: Json) -> Outcome:
    """Run a task in a child of the worker that got it."""
    children = get_worker().plugins[PLUGIN].children
    return children.run(function, argument)
