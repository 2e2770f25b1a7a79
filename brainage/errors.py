"""Every failure a user can cause, on one screen.

Each message says where (scan, path or configuration key), which rule was broken, what came, and
what to do. The command line prints the message alone and exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

# A message may quote foreign text: what moves the cursor or breaks a line is shown as a mark.
_UNPRINTABLE = dict.fromkeys(
    [*range(9), 0x0B, 0x0C, 0x0D, *range(0x0E, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], "\ufffd"
)


def suggest(name: str, known: Iterable[str]) -> str:
    """Ask whether the nearest known name was meant; empty if none is near.

    Examples
    --------
    >>> suggest("trainning.epochs", ["training.epochs", "seed"])
    'Did you mean training.epochs? '
    """
    found = get_close_matches(name, list(known), n=1)
    return f"Did you mean {found[0]}? " if found else ""


class BrainageError(Exception):
    """Base of all errors that the user can mend.

    Parameters
    ----------
    where : str
        Scan, path or configuration key that the message is about.
    problem : str
        The rule and what came instead, as one sentence.
    remedy : str
        What to do, as one sentence; empty when the problem says it.
    """

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = where, problem, remedy
        super().__init__(where, problem, remedy)

    @property
    def reason(self) -> str:
        """Problem and remedy without the place: what a ledger row holds."""
        parts = (self.problem.rstrip(), self.remedy.strip())
        return " ".join(part for part in parts if part).translate(_UNPRINTABLE)

    def __str__(self) -> str:
        where = self.where.translate(_UNPRINTABLE)
        return f"{where}: {self.reason}" if where else self.reason


class ConfigError(BrainageError):
    """A setting is unknown, missing or out of range."""


class MissingExtraError(ConfigError):
    """An optional package is needed and not installed."""


class CohortError(BrainageError):
    """A cohort table or folder cannot be used as it is."""


class VolumeError(BrainageError):
    """A scan cannot be read, or is not the kind of scan that is needed."""


class ImageDataError(BrainageError):
    """An image data set is missing, damaged or cannot be fetched."""


class DownloadError(BrainageError):
    """A public file cannot be downloaded, or is not what its publishers say."""


class PreparationError(BrainageError):
    """A readable scan cannot be brought onto the network's grid."""


class StoreError(BrainageError):
    """A prepared array on disk is missing, stale or damaged."""


class ShapeError(BrainageError):
    """A tensor does not have the shape that its name promises."""


class IsolationError(BrainageError):
    """The loss of a block reaches a weight of another block."""


class TrainingError(BrainageError):
    """Training cannot start or go on."""


class NonFiniteLossError(TrainingError):
    """A loss or gradient is NaN or infinite; in a single process no optimizer has moved."""


class DeviceMemoryError(TrainingError):
    """The device ran out of memory."""


class CheckpointError(BrainageError):
    """A checkpoint is damaged or belongs to another run."""


class BundleError(BrainageError):
    """A trained model on disk is damaged, changed or of an unknown version."""


class TrackingError(BrainageError):
    """The experiment tracker cannot be reached or refuses."""


def first_line(error: Exception) -> str:
    """Return the start of an error's text; of one without a text its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120].rstrip(".")
