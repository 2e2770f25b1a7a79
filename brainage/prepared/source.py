"""Name a scan on disk and its brain mask, and hash all of their bytes."""

import json
from dataclasses import dataclass
from pathlib import Path

from brainage.errors import BrainageError, VolumeError
from brainage.files import sha256_bytes, sha256_file
from brainage.prepared.sidecar import read_sidecar
from brainage.scans.derivative_names import find_derivative
from brainage.scans.open import names_contrast_agent, source_files
from brainage.types import Json


@dataclass(frozen=True)
class ScanSource:
    """A scan on disk and whose brain mask to take.

    Attributes
    ----------
    path : str
    scan_id : str
        What errors call it; its path where it has no name.
    mask : str
        Brain mask, or empty: that of a derivative beside the scan, if there is one.
    command : str
        Brain extraction command, or empty; a mask takes its place.
    """

    path: str
    scan_id: str = ""
    mask: str = ""
    command: str = ""

    @property
    def sidecar(self) -> Json | None:
        """Sidecar that vouches for a volume which `prepare` wrote, where no mask is given."""
        return None if self.mask or self.command else read_sidecar(self.path)

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.scan_id or self.path

    @property
    def mask_file(self) -> Path | None:
        """The given mask, else the one beside a derivative of a known program."""
        if self.mask:
            return Path(self.mask)
        return None if self.command else find_derivative(self.path).mask


def hash_source(source: ScanSource) -> str:
    """Hash all that a scan is prepared from.

    That is the bytes of its files (a pair, a whole folder) and of its mask, its command, the
    sidecar that vouches for it, and the program and contrast agent that its name tells of.

    Raises
    ------
    VolumeError
        If a file is missing or cannot be read.
    """
    mask = source.mask_file
    masks = () if mask is None else source_files(mask, f"{source.where}: brain mask")
    try:
        content = {
            "scan": [sha256_file(file) for file in source_files(source.path, source.where)],
            "mask": [sha256_file(file) for file in masks],
            "command": source.command,
            "sidecar": source.sidecar,
            "label": find_derivative(source.path).label,
            "contrast_agent": names_contrast_agent(source.path),
        }
    except VolumeError:
        raise
    except BrainageError as error:
        raise VolumeError(source.where, error.problem, error.remedy) from error
    return sha256_bytes(json.dumps(content, sort_keys=True).encode())


def check_unchanged(source: ScanSource, scan_hash: str) -> None:
    """Refuse a scan that is not what it was when its hash was taken.

    Raises
    ------
    VolumeError
        Else the result would be kept under the hash of other bytes.
    """
    if hash_source(source) != scan_hash:
        problem = "changed while it was read."
        raise VolumeError(source.where, problem, "Run the command again when the file is whole.")
