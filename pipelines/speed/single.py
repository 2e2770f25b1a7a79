"""Entrants on one device, each in a process of its own, so that its memory is its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from brainage.model.build import block_count
from brainage.training.processes import end_with_parent
from pipelines.speed.entrants import Entrant, Lap, Spec, Track
from pipelines.speed.lap import SCHEDULES, config_of, run_lap

__all__ = ["SCHEDULES", "SingleEntrant", "build_entrant"]


def _start_process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)


@dataclass
class SingleEntrant:
    """A method in one process, which waits while others run."""

    spec: Spec
    track: Track
    network: str
    blocks: int
    process: ProcessPoolExecutor = field(default_factory=_start_process)

    def run_lap(self, repeat: int) -> Lap:
        """Measure once, in the entrant's process."""
        return self.process.submit(run_lap, self.spec, self.track, repeat).result()

    def close(self) -> None:
        """End the process."""
        self.process.shutdown(cancel_futures=True)


def build_entrant(spec: Spec, track: Track) -> Entrant:
    """An entrant of one device; its process starts with its first lap.

    Raises
    ------
    ConfigError
        If its settings are wrong.
    """
    config = config_of(spec, track)
    size = "x".join(str(side) for side in config.input_shape[1:])
    blocks = 1 if spec.schedule == "end_to_end" else block_count(config)
    own = [
        f"{key.removeprefix('training.')} {value}"
        for key, value in spec.changes.items()
        if key.startswith("training.")
    ]
    network = ", ".join([f"{config.network.name} {size}", *own])
    return SingleEntrant(spec, track, network, blocks)
