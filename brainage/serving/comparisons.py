"""Comparisons of methods in MLflow, as the page shows them."""

import os
from pathlib import Path

from brainage.evaluation.comparison import comparison_markdown
from brainage.tracking import (
    Comparison,
    list_comparisons,
    load_comparison,
    resolve_uri,
    shown_uri,
)

__all__ = [
    "Comparison",
    "comparison_markdown",
    "list_comparisons",
    "load_comparison",
    "may_have_comparisons",
    "mlflow_page",
]

# Where browsers find MLflow, if not at the address that the server uses.
PAGE_VARIABLE = "BRAINAGE_MLFLOW_PAGE"
TRACKER_VARIABLE = "MLFLOW_TRACKING_URI"


def may_have_comparisons() -> bool:
    """Whether a tracker was named, or one was begun in this folder."""
    return bool(os.environ.get(TRACKER_VARIABLE)) or Path("mlflow.db").exists()


def mlflow_page() -> str:
    """Return the address of MLflow's pages without a password; empty where there is no server."""
    named = os.environ.get(PAGE_VARIABLE, "")
    address = named or shown_uri(resolve_uri(None, Path.cwd()) or "")
    return address.rstrip("/") if address.startswith("http") else ""
