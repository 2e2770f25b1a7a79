"""What the server allows."""

from dataclasses import dataclass, field

from brainage.sandbox.parent import Limits


@dataclass(frozen=True)
class ServerLimits:
    """Bounds that the server enforces, whatever a browser claims.

    Attributes
    ----------
    upload_mb : int
        Largest file.
    files : int
        Most files of one session at a time.
    session_mb : int
        Most of all files of one session.
    predictions : int
        Predictions at once; more wait in line.
    waiting : int
        Longest line; who comes then is asked to come back.
    away_s : float
        How long a prediction goes on for a page that is gone.
    keep_s : float
        How long results and uploads wait for a page that is gone.
    child : Limits
        Memory, time and threads of one prediction.
    """

    upload_mb: int = 200
    files: int = 20
    session_mb: int = 1000
    predictions: int = 2
    waiting: int = 50
    away_s: float = 8.0
    keep_s: float = 30.0
    child: Limits = field(default_factory=lambda: Limits(6144, 300.0, threads=1))
