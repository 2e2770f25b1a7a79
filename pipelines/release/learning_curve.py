"""Measure the error over the number of training scans, with the power law that fits it.

The released settings, five folds by subject; in each fold the first 40, 80, 160 and all scans of
one random order train. Forty minutes of processor once scans are prepared; finished trainings in
``OUTPUT/curve.csv`` are not done again::

    python -m pipelines.release.learning_curve --data ../shared/data --output curve
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from sklearn.model_selection import GroupKFold

import brainage
from brainage.errors import CohortError
from brainage.files import atomic_write_text
from brainage.plotting.canvas import BLUE, DPI, GREY, build_figure
from brainage.workflows.console import run_as_command, say

SIZES, FOLDS, SEED = (40, 80, 160, 0), 5, 11
RESAMPLES = 2000
Positions = NDArray[np.int64]


def main() -> None:
    """Train, write after each training, fit and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder of prepared scans")
    arguments = parser.parse_args()
    cohort = read_usable(arguments.data, arguments.cache)
    path = arguments.output / "curve.csv"
    done = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["fold", "size"])
    for fold, size, own, others in draw_parts(cohort):
        train, test = cohort.iloc[own], cohort.iloc[others]
        if is_done(done[(done["fold"] == fold) & (done["size"] == size)], train, test):
            continue
        regressor = brainage.BrainAgeRegressor(
            config="cnn3d_inner", random_state=SEED, cache=arguments.cache
        )
        regressor.fit(train["path"], train["age_years"], groups=train["subject_id"])
        rows = test[["scan_id", "subject_id", "site", "age_years"]].assign(
            fold=fold, size=size, n=len(own), predicted_age_years=regressor.predict(test["path"])
        )
        done = pd.concat([done, rows], ignore_index=True)
        atomic_write_text(path, done.to_csv(index=False))
        say(f"fold {fold}, {len(own)} scans: MAE {_errors(rows).mean():.2f} years")
    table, law = summarise(done)
    atomic_write_text(arguments.output / "summary.csv", table.to_csv(index=False))
    draw(table, law, arguments.output / "curve.png")
    say(table.round(2).to_string(index=False))
    say(f"MAE = {law[0]:.1f} · n^−{law[1]:.2f}; 1000 scans: {law[0] * 1000 ** -law[1]:.1f} years")


def read_usable(data: Path, cache: Path | None) -> pd.DataFrame:
    """Healthy people of both cohorts whose scans the quality gate lets pass."""
    healthy = "CDR != CDR or CDR == 0"
    readings = (
        brainage.read_cohort(data / "oasis1" / "cohort.csv", where=healthy),
        brainage.read_cohort(data / "ixi_hh", skip_bad=True),
    )
    table = pd.concat([reading.cohort.table for reading in readings], ignore_index=True)
    predicted = brainage.load_model().predict(list(table["path"]), cache=cache)
    return table[(predicted["verdict"] != "failed").to_numpy()].reset_index(drop=True)


def is_done(rows: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> bool:
    """Tell whether a training's predictions are there.

    Raises
    ------
    CohortError
        If they are of other scans or ages: a fold would test people whom another fold tested.
    """
    if rows.empty:
        return False
    ages = [
        dict(zip(table["scan_id"], table["age_years"].round(6), strict=True))
        for table in (rows, test)
    ]
    if ages[0] != ages[1] or len(rows) != len(test) or (rows["n"] != len(train)).any():
        problem = f"fold {rows['fold'].iloc[0]} is of another cohort."
        raise CohortError("curve.csv", problem, "Choose another --output.")
    return True


def draw_parts(
    cohort: pd.DataFrame,
) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.int64]]]:
    """Fold, size (0: all), and positions of the scans that train and that are predicted."""
    random = np.random.default_rng(SEED)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED)
    parts = folds.split(cohort, groups=cohort["subject_id"].to_numpy())
    for fold, (train, test) in enumerate(parts):
        order = random.permutation(train)
        for size in SIZES:
            yield fold, size, order[: size or None], test


def summarise(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Mean error of each size with a bootstrap interval over people, and factor and exponent.

    The law is MAE = a · n^−b (Hestness et al. 2017, arXiv 1712.00409), by least squares.
    """
    sizes = [size for size in (*SIZES[:-1], 0) if (rows["size"] == size).any()]
    errors = rows.assign(error=_errors(rows)).pivot_table(
        index="subject_id", columns="size", values="error"
    )[sizes]
    random = np.random.default_rng(0)
    drawn = [
        errors.iloc[random.integers(0, len(errors), len(errors))].mean().to_numpy()
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    scans = rows.groupby("size")["n"].mean()[sizes].to_numpy()
    means = rows.assign(error=_errors(rows)).groupby("size")["error"].mean()[sizes].to_numpy()
    table = pd.DataFrame(
        {"scans": scans, "mae_years": means, "mae_ci_low": low, "mae_ci_high": high}
    )
    (factor, power), _ = curve_fit(lambda n, a, b: a * n**-b, scans, means, p0=(20.0, 0.2))
    return table, (float(factor), float(power))


def draw(table: pd.DataFrame, law: tuple[float, float], path: Path) -> None:
    """Draw errors with intervals and the law, on logarithmic axes."""
    caption = f"MAE = {law[0]:.1f} · n^−{law[1]:.2f}; bars: 95 % over people"
    figure, (axes,) = build_figure(
        (1, 1), (5.5, 4.0), "Error over training scans", caption, synthetic=False
    )
    scans = np.geomspace(table["scans"].min(), 1000, 50)
    axes.plot(scans, law[0] * scans ** -law[1], color=GREY, linestyle="--")
    mae = table["mae_years"]
    bars = [(mae - table["mae_ci_low"]).clip(0), (table["mae_ci_high"] - mae).clip(0)]
    axes.errorbar(table["scans"], mae, yerr=bars, fmt="o", color=BLUE)
    axes.set(xscale="log", xlabel="training scans", ylabel="MAE, years")
    ticks = [*table["scans"].round().astype(int), 1000]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    figure.savefig(path, dpi=DPI)


def _errors(rows: pd.DataFrame) -> "pd.Series[float]":
    return (rows["predicted_age_years"] - rows["age_years"]).abs()


if __name__ == "__main__":
    sys.exit(run_as_command(main))
