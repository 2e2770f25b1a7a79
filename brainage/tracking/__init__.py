"""Experiments in MLflow; importing this package does not import MLflow.

`tracker` is what the rest of brainage uses, `names` are the names in it, `backend` is the only
module that imports MLflow.
"""

from brainage.tracking.names import (
    COMPARISON_NOTE,
    FINAL_METRICS,
    final_metrics,
    run_name,
    run_tags,
)
from brainage.tracking.tracker import PENDING_FILE, Run, Tracker, resolve_uri, upload_pending

__all__ = [
    "COMPARISON_NOTE",
    "FINAL_METRICS",
    "PENDING_FILE",
    "Run",
    "Tracker",
    "final_metrics",
    "resolve_uri",
    "run_name",
    "run_tags",
    "upload_pending",
]
