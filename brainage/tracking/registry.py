"""Trained models in MLflow's model registry: ``models:/brainage@champion``.

A version is a bundle's folder, stored as artifacts of a run. What comes back is checked by
`brainage.model.bundle.load_bundle` against its manifest, like any other bundle.
"""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from brainage.errors import TrackingError
from brainage.extras import check_extra
from brainage.tracking.backend import ModelVersion, Registry
from brainage.tracking.uri import resolve_uri, shown_uri

PREFIX = "models:/"
MODEL_NAME, CHAMPION = "brainage", "champion"
_URI = re.compile(r"models:/+(?P<name>[\w.-]+)(@(?P<alias>[\w.-]+)|/(?P<version>\d+))", re.ASCII)


@dataclass(frozen=True)
class FetchedModel:
    """A bundle that came from a registry.

    Attributes
    ----------
    folder : pathlib.Path
        Bundle on this machine.
    version : str
        Name and version in the registry: ``brainage version 3``.
    """

    folder: Path
    version: str


def is_model_uri(text: str) -> bool:
    """Whether a model is named by its place in a registry."""
    return text.startswith(PREFIX)


def fetch_model(uri: str, cache: Path, tracking_uri: str | None = None) -> FetchedModel:
    """Download a registered bundle, or take it from the cache.

    An alias is looked up each time, so that a new champion is found at once; a version never
    changes and is downloaded once.

    Parameters
    ----------
    uri : str
        ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    cache : pathlib.Path
        Folder that keeps downloaded bundles.
    tracking_uri : str, optional
        As in `brainage.tracking.resolve_uri`; the default database is `mlflow.db` here.

    Raises
    ------
    TrackingError
        If the address is none, the registry cannot be reached, or it lacks the model.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        problem = f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {uri!r}."
        raise TrackingError("--model", problem, f"For example {PREFIX}{MODEL_NAME}@{CHAMPION}.")
    address = existing_uri(tracking_uri)
    try:
        registry = Registry(address)
        version = registry.find(found["name"], found["alias"], found["version"])
        folder = cache / f"{version.name}-{version.version}-{version.run_id[:12]}"
        if not (folder / "manifest.json").exists():
            _download(registry, version, folder)
    except TrackingError:
        raise
    except Exception as error:  # MLflow passes on what its database and HTTP libraries raise
        problem = f"could not be had from MLflow at {shown_uri(address)} ({type(error).__name__})."
        remedy = "Does the server run, and has `brainage register` used this name and alias?"
        raise TrackingError(uri, problem, remedy) from error
    return FetchedModel(folder, f"{version.name} version {version.version}")


def existing_uri(tracking_uri: str | None) -> str:
    """Address of a tracker to read from.

    Raises
    ------
    TrackingError
        If tracking is off, or the local database is not there.
    MissingExtraError
        If MLflow is not installed.
    """
    check_extra("mlflow", "tracking")
    address = resolve_uri(tracking_uri, Path.cwd())
    if address is None:
        raise TrackingError("--tracking-uri", "is off.", "Name the tracker that holds the model.")
    database = Path(address.removeprefix("sqlite:///"))
    if address.startswith("sqlite:///") and not database.exists():
        remedy = "Set MLFLOW_TRACKING_URI to the tracker that holds the model."
        raise TrackingError(str(database), "is not there: no model is registered here.", remedy)
    return address


def _download(registry: Registry, version: ModelVersion, folder: Path) -> None:
    """Bring a version's bundle to a folder, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as private:
        bundle = registry.download(version, Path(private))
        if folder.exists():
            shutil.rmtree(folder)
        try:
            bundle.rename(folder)
        except OSError:
            # Another process was faster; its download is the same version.
            if not (folder / "manifest.json").exists():
                raise
