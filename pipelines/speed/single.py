"""Entrants on one device."""

from pipelines.speed.entrants import Entrant, Spec, Track

SCHEDULES = ("end_to_end", "sequential", "progressive", "checkpointed")


def build_entrant(spec: Spec, track: Track) -> Entrant:
    """Not there yet."""
    raise NotImplementedError
