"""Trained models in MLflow's model registry: ``models:/brainage@champion``."""

from dataclasses import dataclass
from pathlib import Path

PREFIX = "models:/"


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
    """Placeholder until the registry part lands."""
    raise NotImplementedError
