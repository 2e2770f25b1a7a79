"""What `--model` names: a folder, or a version in MLflow's model registry."""

from pathlib import Path

from brainage.tracking.registry import fetch_model, is_model_uri
from pipelines.console import default_cache


def resolve_model(model: str | Path, tracking_uri: str | None = None) -> tuple[Path, str]:
    """Folder of a bundle, and its version in the registry (empty for a plain folder).

    Raises
    ------
    TrackingError
        If the registry cannot be reached or does not know the model.
    """
    if not is_model_uri(str(model)):
        return Path(model), ""
    fetched = fetch_model(str(model), default_cache() / "models", tracking_uri)
    return fetched.folder, fetched.version
