"""Models that the page offers: bundles in folders, and the champion of MLflow's registry."""

import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from brainage.errors import BrainageError
from brainage.files import default_cache
from brainage.model.released import RELEASED_FOLDER
from brainage.tracking import CHAMPION, MODEL_NAME, fetch_model

MODELS_VARIABLE = "BRAINAGE_MODELS"
CHAMPION_URI = f"models:/{MODEL_NAME}@{CHAMPION}"
LOOK_EVERY_S = 60.0


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
    """List the champion, the released model where it is shipped, and bundles in the folders."""
    champion = get_champion().model
    found = {} if champion is None else {champion.folder.resolve(): champion}
    for folder in [RELEASED_FOLDER.parent, *model_folders()]:
        for candidate in (folder, *sorted(folder.glob("*"))):
            if (candidate / "manifest.json").is_file():
                found.setdefault(candidate.resolve(), FoundModel(candidate.name, candidate))
    return list(found.values())


class Champion:
    """The registry's champion, looked up aside: no page waits for a tracker that is away.

    Parameters
    ----------
    cache : pathlib.Path
        Folder that keeps downloaded bundles.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self.model: FoundModel | None = None

    def start(self) -> None:
        """Look for it now and every minute."""
        threading.Thread(target=self._watch, daemon=True).start()

    def look(self) -> None:
        """Ask the registry once; one that does not answer changes nothing."""
        try:
            fetched = fetch_model(CHAMPION_URI, self._cache)
        except (BrainageError, OSError):
            return
        self.model = FoundModel(f"{fetched.version} ({CHAMPION})", fetched.folder)

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            self.look()
            pause.wait(LOOK_EVERY_S)


@lru_cache(maxsize=1)
def get_champion() -> Champion:
    """Return the one of this process; it knows of none until it has been started."""
    return Champion(default_cache() / "models")
