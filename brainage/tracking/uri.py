"""Choose where experiments are logged."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from brainage.errors import MissingExtraError, TrackingError
from brainage.extras import check_extra

URI_VARIABLE = "MLFLOW_TRACKING_URI"
OFF = ("off", "none")


def resolve_uri(uri: str | None, folder: Path) -> str | None:
    """Choose where to log.

    Parameters
    ----------
    uri : str, optional
        ``http(s)://…`` of a server, ``sqlite:///…``, ``off`` or ``none``; absent: the environment
        variable MLFLOW_TRACKING_URI, else `mlflow.db` in `folder`.
    folder : pathlib.Path
        Folder of the default database.

    Returns
    -------
    str or None
        The URI; None when tracking is off.

    Raises
    ------
    TrackingError
        If the URI is of another kind.
    """
    default = f"sqlite:///{folder.resolve().as_posix()}/mlflow.db"
    uri = uri or os.environ.get(URI_VARIABLE) or default
    if uri.lower() in OFF:
        return None
    parts = urlsplit(uri)
    if (parts.scheme in ("http", "https") and parts.hostname) or uri.startswith("sqlite:///"):
        return uri
    raise TrackingError(
        "--tracking-uri",
        f"expected a server or a database, got {shown_uri(uri)!r}.",
        "Give http://host:port, sqlite:///path/mlflow.db or off.",
    )


def shown_uri(uri: str) -> str:
    """Write a URI without the user name and password it may carry."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="").geturl() if parts.netloc else uri


def installed_uri(uri: str | None, folder: Path, on_warning: Callable[[str], None]) -> str | None:
    """Choose where to log as `resolve_uri` does; nowhere without MLflow unless asked to.

    Raises
    ------
    TrackingError
        As `resolve_uri` does.
    MissingExtraError
        If a tracker was named and MLflow is not installed.
    """
    target = resolve_uri(uri, folder)
    if target is None:
        return None
    try:
        check_extra("mlflow", "tracking")
    except MissingExtraError as error:
        if uri or os.environ.get(URI_VARIABLE):
            raise
        on_warning(f"runs are not tracked: MLflow is not installed. {error.remedy}")
        return None
    return target
