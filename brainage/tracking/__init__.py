"""Experiments in MLflow; importing this package does not import MLflow.

The rest of brainage uses `tracker`; `pending` sends what a tracker could not, `names` holds the
names in it, and `backend` is the only module that imports MLflow.
"""

from brainage.tracking.comparisons import (
    TABLES,
    Comparison,
    list_comparisons,
    load_comparison,
)
from brainage.tracking.names import (
    COMPARISON_NOTE,
    FINAL_METRICS,
    final_metrics,
    run_name,
    run_tags,
)
from brainage.tracking.overview import SPEED_BARS, log_overview
from brainage.tracking.pending import upload_pending
from brainage.tracking.registry import (
    CHAMPION,
    MODEL_NAME,
    FetchedModel,
    fetch_model,
    is_model_uri,
)
from brainage.tracking.server import server_command, server_environment
from brainage.tracking.tracker import (
    PENDING_FILE,
    Run,
    Tracker,
)
from brainage.tracking.uri import resolve_uri, shown_uri

__all__ = [
    "CHAMPION",
    "COMPARISON_NOTE",
    "FINAL_METRICS",
    "MODEL_NAME",
    "PENDING_FILE",
    "SPEED_BARS",
    "TABLES",
    "Comparison",
    "FetchedModel",
    "Run",
    "Tracker",
    "fetch_model",
    "final_metrics",
    "is_model_uri",
    "list_comparisons",
    "load_comparison",
    "log_overview",
    "resolve_uri",
    "run_name",
    "run_tags",
    "server_command",
    "server_environment",
    "shown_uri",
    "upload_pending",
]
