"""Tables, numbers and pictures that several commands write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from brainage.evaluation.figures import (
    plot_error_by_age_band,
    plot_gap_vs_age,
    plot_predicted_vs_true,
)
from brainage.evaluation.metrics import subgroup_metrics
from brainage.files import atomic_write_text


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, whole or not at all."""
    atomic_write_text(path, table.to_csv(index=False))


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    atomic_write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def plot_predictions(table: pd.DataFrame, folder: Path, *, seed: int, synthetic: bool) -> None:
    """Write the usual pictures and the metrics by sex, age band and site."""
    write_table(subgroup_metrics(table, seed=seed), folder / "subgroups.csv")
    for name, plot in (
        ("predicted_vs_true.png", plot_predicted_vs_true),
        ("gap_vs_age.png", plot_gap_vs_age),
        ("error_by_age_band.png", plot_error_by_age_band),
    ):
        plot(table, folder / name, synthetic=synthetic)
