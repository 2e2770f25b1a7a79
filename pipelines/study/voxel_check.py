"""Does preparation put anatomy where the template has it? A linear model of age tells.

``python -m pipelines.study.voxel_check --data ../shared/data --output check`` prepares IXI's whole
heads, cross-validates a linear model of age on the voxels, and writes verdicts and tissue
overlaps (ixi.csv). A scan that was registered wrongly would cost the model its accuracy.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from brainage.cohorts.cohort import read_cohort
from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError
from brainage.evaluation.baselines import fit_linear_baseline
from brainage.prepared.arrays import load_or_prepare
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.types import HalfArray
from brainage.workflows.console import run_as_command, say

SETTINGS = PreprocessingConfig(spacing_mm=4.0, shape=(40, 48, 40))
FOLDS, REPEATS = 10, 5


def main() -> None:
    """Prepare, cross-validate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    table = read_cohort(arguments.data / "ixi_hh", require_age=False).cohort.table
    store = PreparedStore(arguments.output / "cache")
    rows, arrays = [], []
    for scan_id, path, age in table[["scan_id", "path", "age_years"]].itertuples(index=False):
        try:
            _, scan = load_or_prepare(store, ScanSource(path, scan_id), SETTINGS)
        except BrainageError as error:
            rows.append({"scan_id": scan_id, "verdict": "failed", "reason": error.reason})
            continue
        reason = "; ".join(scan.reasons)
        rows.append(
            {"scan_id": scan_id, "verdict": scan.verdict, "reason": reason, **scan.measures}
        )
        if not np.isnan(age):
            arrays.append((float(age), scan.array))
    results = pd.DataFrame(rows)
    results.to_csv(arguments.output / "ixi.csv", index=False)
    say(results["verdict"].value_counts().to_string())
    say(results[["white_overlap", "grey_overlap"]].describe().to_string())
    ages = np.array([age for age, _ in arrays])
    say(f"constant predictor: {np.abs(ages - np.median(ages)).mean():.2f} years")
    errors = cross_validate(np.array([array for _, array in arrays]), ages)
    say(f"linear model: {errors.mean():.2f} years, {errors.min():.2f} to {errors.max():.2f}")


def cross_validate(arrays: HalfArray, ages: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean absolute error in years of the linear baseline, for each repeat of the folds."""
    errors = []
    for seed in range(REPEATS):
        predicted = np.empty(len(ages))
        for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(ages):
            model = fit_linear_baseline(arrays[train], ages[train], seed=seed)
            predicted[test] = model.predict(arrays[test])
        errors.append(np.abs(predicted - ages).mean())
    return np.array(errors)


if __name__ == "__main__":
    sys.exit(run_as_command(main))
