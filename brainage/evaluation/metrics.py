"""Error metrics of predicted ages: pure functions of arrays and tables.

Confidence intervals resample subjects, not scans: two scans of one person are not two witnesses
(cluster bootstrap, Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.measures import check_columns
from brainage.types import DoubleArray

AGE_BAND_EDGES = (20, 30, 40, 50, 60, 70, 80, 90)
AGE_BANDS = ("<20", *(f"{low}-{low + 9}" for low in AGE_BAND_EDGES[:-1]), "90+")
SUBGROUPS = ("sex", "age_band", "site")

Number = float | int | None

_DRAWS_AT_ONCE = 2**20


def age_metrics(
    age_years: ArrayLike,
    predicted_age_years: ArrayLike,
    *,
    subject_ids: Sequence[str] | None = None,
    seed: int = 0,
    bootstrap: int = 2000,
) -> dict[str, Number]:
    """Compare predicted with chronological ages.

    Parameters
    ----------
    age_years, predicted_age_years : array_like (N,)
        Chronological and predicted ages of N scans, in years.
    subject_ids : sequence of str (N,), optional
        Whose scan it is; absent: every scan is its own subject.
    seed : int
        Seed of the bootstrap.
    bootstrap : int
        Number of resamples of the subjects; 0 leaves the interval out.

    Returns
    -------
    dict
        `n`, `mae_years`, `mae_ci_low`, `mae_ci_high` (95 %, percentile bootstrap over subjects),
        `rmse_years`, `r2` (1 - residual / total sum of squares around the mean age, as
        `sklearn.metrics.r2_score`), `r` (Pearson), `bias_years` (mean of predicted - age) and
        `gap_slope` (least-squares slope of predicted - age on age, years per year). A value that
        is not defined (one scan, one age, one subject) is None.

    Raises
    ------
    ShapeError
        If the arrays are not (N,) of one length.
    CohortError
        If there are no scans, or a value is not finite.
    """
    age, predicted = check_pair(age_years, predicted_age_years, "age_metrics")
    gap = predicted - age
    interval = subject_interval(np.abs(gap), subject_ids, seed=seed, bootstrap=bootstrap)
    centred_age, centred_gap = age - age.mean(), gap - gap.mean()
    age_scatter = float(centred_age @ centred_age) if _varies(age) else None
    return {
        "n": age.size,
        "mae_years": float(np.abs(gap).mean()),
        "mae_ci_low": interval[0],
        "mae_ci_high": interval[1],
        "rmse_years": float(np.sqrt((gap**2).mean())),
        "r2": None if age_scatter is None else 1.0 - float(gap @ gap) / age_scatter,
        "r": _correlation(age, predicted),
        "bias_years": float(gap.mean()),
        "gap_slope": None
        if age_scatter is None
        else float(centred_age @ centred_gap) / age_scatter,
    }


def paired_difference(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    subject_ids: Sequence[str] | None = None,
    seed: int = 0,
    bootstrap: int = 2000,
) -> dict[str, float | None]:
    """Compare two methods' errors on the same scans, a - b.

    Parameters
    ----------
    errors_a, errors_b : array_like (N,)
        Absolute errors of both methods, in years, in the same order of scans.
    subject_ids : sequence of str (N,), optional
        Whose scan it is; absent: every scan is its own subject.
    seed, bootstrap : int
        Seed and number of resamples of the subjects.

    Returns
    -------
    dict
        `mean` in years (below 0: a is better) and its 95 % interval `ci_low`, `ci_high`
        (percentile bootstrap over subjects; None for a single subject).

    Raises
    ------
    ShapeError
        If the arrays are not (N,) of one length.
    CohortError
        If there are no scans, or a value is not finite.
    """
    a, b = check_pair(errors_a, errors_b, "paired_difference")
    low, high = subject_interval(a - b, subject_ids, seed=seed, bootstrap=bootstrap)
    return {"mean": float((a - b).mean()), "ci_low": low, "ci_high": high}


def unbeaten_baselines(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Name the simple baselines that a network does not beat, with their errors.

    Parameters
    ----------
    metrics : mapping
        `mae_years` of the network and `baselines`, each with its `mae_years`, on the same scans.

    Returns
    -------
    dict of str to float
        Mean absolute error in years of ``constant`` and ``linear`` where it is not above the
        network's.
    """
    own, baselines = metrics.get("mae_years"), metrics.get("baselines", {})
    errors = {
        name: baselines[name].get("mae_years")
        for name in ("constant", "linear")
        if name in baselines
    }
    return {
        name: error
        for name, error in errors.items()
        if error is not None and own is not None and own >= error
    }


def describe_unbeaten(metrics: Mapping[str, Any]) -> str:
    """Say which simple baselines a network does not beat; empty where it beats them.

    >>> describe_unbeaten({"mae_years": 9.0, "baselines": {"linear": {"mae_years": 7.25}}})
    'the model does not beat the linear baseline on its test scans (MAE 9.0 against 7.2 years)'
    """
    found = unbeaten_baselines(metrics)
    if not found:
        return ""
    names = " and the ".join(found)
    errors = " and ".join(f"{error:.1f}" for error in found.values())
    return (
        f"the model does not beat the {names} baseline on its test scans "
        f"(MAE {metrics['mae_years']:.1f} against {errors} years)"
    )


def subgroup_metrics(table: pd.DataFrame, *, seed: int = 0, bootstrap: int = 2000) -> pd.DataFrame:
    """Compute metrics by sex, age band and site.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, `predicted_age_years`; and where known `subject_id`, `sex`, `site`.
    seed, bootstrap : int
        As in `age_metrics`.

    Returns
    -------
    pandas.DataFrame
        One row a group: `group` (sex, age_band, site), `value` ("unknown" where missing), `n`,
        `mae_years`, `mae_ci_low`, `mae_ci_high`, `bias_years`. A grouping that the table lacks
        has no rows.

    Raises
    ------
    CohortError
        If the table lacks an age column.
    """
    check_columns(table, ("age_years", "predicted_age_years"), "prediction table")
    return pd.DataFrame(
        [
            {"group": group, "value": value, **_group_row(part, seed, bootstrap)}
            for group, value, part in iterate_subgroups(table)
        ]
    )


def iterate_subgroups(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Split a prediction table by sex, age band and site, as (group, value, rows).

    A missing value is "unknown"; a grouping that the table lacks has no parts.
    """
    table = table.assign(age_band=age_bands(table["age_years"]))
    for group in SUBGROUPS:
        if group not in table or table[group].isna().all():
            continue
        labels = table[group].astype("object").where(table[group].notna(), "unknown").astype(str)
        names = AGE_BANDS if group == "age_band" else sorted(labels.unique())
        for value in names:
            part = table[labels == value]
            if len(part):
                yield group, value, part


def age_bands(age_years: ArrayLike) -> NDArray[np.str_]:
    """Name the band of each age: below 20, decades, 90 and above.

    Parameters
    ----------
    age_years : array_like (N,)
        Ages in years.

    Returns
    -------
    numpy.ndarray of str (N,)
        Entries of `AGE_BANDS`; 30.0 is in "30-39", 29.99 in "20-29".
    """
    return np.asarray(AGE_BANDS)[np.digitize(np.asarray(age_years, float), AGE_BAND_EDGES)]


def constant_predictor(train_ages: ArrayLike, n: int) -> DoubleArray:
    """Predict the training ages' median for n scans: the constant with the smallest MAE.

    Parameters
    ----------
    train_ages : array_like (N,)
        Ages of the training scans, in years.
    n : int
        Number of predictions.

    Returns
    -------
    numpy.ndarray of float64 (n,)
        The median in years, n times.

    Raises
    ------
    CohortError
        If there are no training ages, or one is not finite.
    """
    ages, _ = check_pair(train_ages, train_ages, "constant_predictor")
    return np.full(n, np.median(ages))


def subject_interval(
    values: DoubleArray,
    subject_ids: Sequence[str] | None,
    *,
    seed: int,
    bootstrap: int,
) -> tuple[float, float] | tuple[None, None]:
    """Compute 95 % percentile interval of a mean over scans, subjects resampled with replacement.

    Parameters
    ----------
    values : numpy.ndarray of float64 (N,)
        One value a scan.
    subject_ids : sequence of str (N,), optional
        Whose scan it is; absent: every scan is its own subject.
    seed, bootstrap : int
        Seed and number of resamples.

    Returns
    -------
    tuple of float
        The 2.5th and 97.5th percentile; (None, None) for a single subject, which has no spread.

    Raises
    ------
    ShapeError
        If `subject_ids` has another length than `values`.
    """
    if subject_ids is None:
        codes = np.arange(values.size)
    else:
        if len(subject_ids) != values.size:
            raise ShapeError(
                "subject_ids", f"expected {values.size} entries, got {len(subject_ids)}."
            )
        codes = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)[1]
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    if counts.size < 2 or bootstrap < 1:
        return None, None
    random = np.random.default_rng(seed)
    # Some resamples at a time: (bootstrap, N) draws at once would not fit for a large cohort.
    rows = max(1, _DRAWS_AT_ONCE // counts.size)
    means = np.empty(bootstrap)
    for first in range(0, bootstrap, rows):
        part = means[first : first + rows]
        drawn = random.integers(counts.size, size=(part.size, counts.size))
        part[:] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def smallest_detectable_change(within_sd: float) -> float:
    """Compute 1.96 · √2 · within-subject standard deviation (Weir 2005, doi:10.1519/15184.1).

    Two scans of one person, between whom nothing has changed, differ by less in 95 of 100 cases.

    Examples
    --------
    >>> round(smallest_detectable_change(1.4), 2)
    3.88
    """
    return 1.96 * math.sqrt(2) * within_sd


def check_pair(a: ArrayLike, b: ArrayLike, where: str) -> tuple[DoubleArray, DoubleArray]:
    """Return two arrays (N,) of finite numbers.

    Raises
    ------
    ShapeError
        If the arrays are not (N,) of one length.
    CohortError
        If there are no scans, or a value is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    # (N,) against (N, 1) would broadcast to (N, N) and give a plausible, wrong number.
    if first.ndim != 1 or first.shape != second.shape:
        raise ShapeError(
            where, f"expected two arrays (N,) of one length, got {first.shape} and {second.shape}."
        )
    if first.size == 0:
        raise CohortError(where, "needs at least one scan, got none.")
    bad = int((~np.isfinite(first) | ~np.isfinite(second)).sum())
    if bad:
        raise CohortError(
            where, f"{bad} of {first.size} values are not finite.", "Drop those scans."
        )
    return first, second


def _varies(values: DoubleArray) -> bool:
    """Whether values differ by more than rounding: means of equal numbers have an r, too."""
    return bool(np.ptp(values) > 1e-9 * np.abs(values).max())


def _correlation(a: DoubleArray, b: DoubleArray) -> float | None:
    if not (_varies(a) and _varies(b)):
        return None
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 0 else None


def _group_row(part: pd.DataFrame, seed: int, bootstrap: int) -> dict[str, Number]:
    metrics = age_metrics(
        part["age_years"].to_numpy(float),
        part["predicted_age_years"].to_numpy(float),
        subject_ids=list(part["subject_id"]) if "subject_id" in part else None,
        seed=seed,
        bootstrap=bootstrap,
    )
    names = ("n", "mae_years", "mae_ci_low", "mae_ci_high", "bias_years")
    return {name: metrics[name] for name in names}
