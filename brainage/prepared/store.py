"""Keep what a scan became in one content-addressed store.

An entry is a folder, ``prepared/KIND/KEY[:2]/KEY``, with its files and a record: JSON that names
the SHA-256 of every file and ends with its own. The key is a hash of all that decides the entry,
so a changed scan, setting or library finds nothing rather than something old. An entry is written
under a private name and renamed: it is there whole or not at all, even if a writer is killed.
Only the holder of the store's lock renames.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeVar

from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError, StoreError
from brainage.files import (
    DAMAGE_ERRORS,
    atomic_write_bytes,
    hold_lock,
    parse_json,
    read_sealed,
    remove_unfinished,
    sha256_bytes,
    temporary_name,
    write_sealed,
)
from brainage.preprocessing.skull import SKULL_SHA256
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.preprocessing.verdict import limits_hash
from brainage.types import Json

# Raise whenever the same scan and settings would give another placement, array or derivative.
CODE_VERSION = 10
RECORD = "record.sealed"

Kind = Literal["placement", "array", "derivative"]
Files = Mapping[str, bytes]
T = TypeVar("T")

# Settings that decide neither where the brain is nor what is measured there.
_OF_THE_GRID = {"spacing_mm", "shape", "intensity", "inner_depth_mm", "min_template_correlation"}
_LIBRARIES = ("numpy", "scipy", "nibabel", "nilearn", "SimpleITK", "pydicom", "dcm2niix")


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Look up the versions of the installed libraries that touch voxels."""
    found = {}
    for package in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def entry_key(kind: Kind, scan_hash: str, settings: PreprocessingConfig, **more: object) -> str:
    """Hash all that decides an entry: equal keys, equal entries.

    Parameters
    ----------
    scan_hash : str
        `brainage.prepared.source.hash_source`.
    **more
        What else this kind of entry depends on, as JSON values.
    """
    places = kind == "placement"
    content = {
        "kind": kind,
        "code": CODE_VERSION,
        "libraries": library_versions(),
        "template": TEMPLATE_SHA256,
        "skull": SKULL_SHA256,
        "limits": None if places else limits_hash(),
        "scan": scan_hash,
        "settings": settings.model_dump(mode="json", exclude=_OF_THE_GRID if places else None),
        **more,
    }
    return sha256_bytes(json.dumps(content, sort_keys=True).encode())


@dataclass(frozen=True)
class PreparedStore:
    """A folder of entries that several processes and machines may share.

    Attributes
    ----------
    folder : pathlib.Path
        Cache folder; the entries lie in ``prepared`` below it.
    on_damage : callable
        Receives one line for each entry that was damaged and is removed.
    """

    folder: Path
    on_damage: Callable[[str], None] = logging.getLogger(__name__).warning

    def path(self, kind: Kind, key: str) -> Path:
        """Folder of an entry."""
        return self.folder / "prepared" / kind / key[:2] / key

    def load(self, kind: Kind, key: str, decode: Callable[[Json, Files], T]) -> T | None:
        """Load an entry; None where there is none, or where it was damaged and is removed.

        Parameters
        ----------
        decode : callable
            From what the record says and the files' content to the result; raises one of
            `brainage.files.DAMAGE_ERRORS` where they do not fit.
        """
        folder = self.path(kind, key)
        if not folder.is_dir():
            return None
        with contextlib.suppress(*DAMAGE_ERRORS):
            return decode(*_read(folder, key))
        aside = folder.with_name(temporary_name())
        with hold_lock(self._lock), contextlib.suppress(OSError):
            with contextlib.suppress(*DAMAGE_ERRORS):  # made again meanwhile by another process
                return decode(*_read(folder, key))
            folder.rename(aside)
            self.on_damage(f"{kind} {key[:12]} of the cache was damaged and is made again")
        shutil.rmtree(aside, ignore_errors=True)
        return None

    def save(self, kind: Kind, key: str, about: Json, files: Files) -> None:
        """Put an entry into its place, unless another process was faster.

        Parameters
        ----------
        about : dict
            What the record says beside the files' hashes.
        files : mapping of str to bytes
            Content by name.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        target = self.path(kind, key)
        private = target.with_name(temporary_name())
        sums = {name: sha256_bytes(content) for name, content in files.items()}
        try:
            remove_unfinished(target.parent)
            for name, content in files.items():
                atomic_write_bytes(private / name, content)
            record = json.dumps({"key": key, "about": about, "files": sums}, indent=1)
            write_sealed(private / RECORD, record.encode())
            with hold_lock(self._lock):
                if not target.exists():
                    private.rename(target)
        except (BrainageError, OSError) as error:
            problem = f"the cache cannot be written ({getattr(error, 'reason', error)})."
            remedy = "Free disk space or choose another cache folder (--cache)."
            raise StoreError(str(self.folder), problem, remedy) from error
        finally:
            shutil.rmtree(private, ignore_errors=True)

    @property
    def _lock(self) -> Path:
        return self.folder / "prepared" / ".lock"


def _read(folder: Path, key: str) -> tuple[Json, Files]:
    record = parse_json(read_sealed(folder / RECORD) or b"")
    files = {name: (folder / name).read_bytes() for name in record["files"]}
    if record["key"] != key or any(sha256_bytes(files[n]) != record["files"][n] for n in files):
        raise ValueError("the record does not fit the files")
    return record["about"], files
