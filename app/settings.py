"""What the server allows, and where its models lie."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from brainage.running.parent import Limits

MODELS_VARIABLE = "BRAINAGE_MODELS"


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
    child : Limits
        Memory, time and threads of one prediction.
    """

    upload_mb: int = 200
    files: int = 20
    session_mb: int = 1000
    predictions: int = 2
    waiting: int = 50
    away_s: float = 8.0
    child: Limits = field(default_factory=lambda: Limits(6144, 300.0, threads=1))


@dataclass(frozen=True)
class FoundModel:
    """A bundle that the app offers."""

    name: str
    folder: Path


def model_folders() -> list[Path]:
    """Where bundles are looked for: BRAINAGE_MODELS (several with the path separator), ./models."""
    named = os.environ.get(MODELS_VARIABLE, "")
    folders = [Path(part) for part in named.split(os.pathsep) if part]
    return folders or [Path("models")]


def find_models() -> list[FoundModel]:
    """Bundles in the model folders, and the released model first where it travels along."""
    found: dict[Path, FoundModel] = {}
    for folder in [_released(), *model_folders()]:
        for candidate in (folder, *sorted(folder.glob("*"))):
            if (candidate / "manifest.json").is_file():
                found.setdefault(candidate.resolve(), FoundModel(candidate.name, candidate))
    return list(found.values())


def _released() -> Path:
    import brainage

    return Path(brainage.__file__).parent / "models"
