"""The manifest of a bundle: its version, its files, and the checksums that guard them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainage.errors import BundleError
from brainage.files import parse_json, sha256_bytes
from brainage.types import Json

BUNDLE_VERSION = "1"
WEIGHTS, OOD = "model.safetensors", "ood.safetensors"
SHARED_FILES = ("config.yaml", "bundle.json", "card.md")
BUNDLE_FILES = (WEIGHTS, *SHARED_FILES)
_ENTRIES = {"bundle_version", "sha256", "members"}


def bundle_files(folder: Path) -> list[str]:
    """Files of a bundle and its members, relative to the folder; tables and pictures are not.

    Raises
    ------
    BundleError
        If the folder holds no finished bundle.
    """
    manifest = read_manifest(folder)
    files = ["manifest.json", *manifest["sha256"]]
    for name in manifest.get("members", {}):
        files += [f"{name}/{file}" for file in bundle_files(folder / name)]
    return files


def read_manifest(folder: Path) -> Json:
    """Versions and checksums of a bundle, before any other file of it is read.

    Raises
    ------
    BundleError
        If there is none, it is damaged, or of another version.
    """
    path = folder / "manifest.json"
    try:
        manifest = parse_json(path.read_bytes())
        # Before anything else is asked of it: a newer version may be of another form.
        _check_version(folder, manifest["bundle_version"])
        names = {*manifest["sha256"]}
        dict(manifest["sha256"]), dict(manifest.get("members", {}))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            str(folder),
            "holds no finished model (no manifest.json).",
            "Give the folder that `brainage train --output` wrote.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(str(path), "is not a bundle's manifest.") from error
    unknown = sorted(names - {*BUNDLE_FILES, OOD} | {*manifest} - _ENTRIES)
    if unknown:
        problem = f"lists what no bundle of this version has: {unknown[0]!r}."
        raise BundleError(str(path), problem, "Restore the file or train anew.")
    checked: Json = manifest
    return checked


def _check_version(folder: Path, version: Any) -> None:
    if version != BUNDLE_VERSION:
        raise BundleError(
            str(folder),
            f"has bundle version {version!r}, this program reads {BUNDLE_VERSION!r}.",
            "Use the brainage that wrote it, or train anew.",
        )


def read_checked(folder: Path, manifest: Json, needed: Sequence[str]) -> dict[str, bytes]:
    """Bytes of the needed files, and of the out-of-distribution reference where there is one.

    Raises
    ------
    BundleError
        If a file is missing or differs from the manifest.
    """
    hashes: Mapping[str, Any] = manifest["sha256"]
    content = {}
    for name in (*needed, *([OOD] if OOD in hashes else [])):
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BundleError(str(folder / name), "is missing or unreadable.") from error
        if sha256_bytes(content[name]) != hashes.get(name):
            raise BundleError(
                str(folder / name),
                "differs from the manifest: it was changed or damaged after training.",
                "Restore the file or train anew.",
            )
    return content
