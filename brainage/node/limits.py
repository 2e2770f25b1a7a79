"""What the node allows its peers and its own predictions."""

from dataclasses import dataclass

from brainage.errors import ConfigError
from brainage.sandbox.parent import Limits

MB = 2**20
# A study that was broken off waits so many quiet times for its sender to try again.
PATIENCE = 10
_CHILD = Limits(6144, 900.0, threads=1)


@dataclass(frozen=True)
class NodeLimits:
    """Bounds of the node.

    Attributes
    ----------
    quiet_s : float
        A study is whole when nothing of it has come for so long and its senders have ended their
        associations.
    associations : int
        Associations at a time.
    idle_s : float
        How long an association may be silent, and a PDU take.
    association_s : float
        How long an association may last.
    object_mb, study_mb, queue_mb : int
        Largest object, largest study, and most that the queue holds; more is answered as out of
        resources.
    keep_free_mb : int
        Disk space that stays free.
    child : Limits
        Memory, time and threads of one prediction.

    Raises
    ------
    ConfigError
        If they contradict each other.
    """

    quiet_s: float = 120.0
    associations: int = 8
    idle_s: float = 60.0
    association_s: float = 4 * 3600.0
    object_mb: int = 256
    study_mb: int = 4096
    queue_mb: int = 20480
    keep_free_mb: int = 1024
    child: Limits = _CHILD

    def __post_init__(self) -> None:
        if not self.object_mb <= self.study_mb <= self.queue_mb:
            sizes = f"{self.object_mb}, {self.study_mb}, {self.queue_mb}"
            problem = f"expected object ≤ study ≤ queue in MB, got {sizes}."
            raise ConfigError("--max-study-mb", problem)

    @property
    def broken_off_s(self) -> float:
        """How long a study that was broken off waits for its sender."""
        return PATIENCE * self.quiet_s
