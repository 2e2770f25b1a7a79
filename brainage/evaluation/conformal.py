"""Prediction intervals that hold what they promise: split conformal prediction for ages.

A calibration keeps the sorted scores of scans that the network did not learn from. The interval
at level 1 - α takes their ⌈(n + 1)(1 - α)⌉-th smallest score q and covers a new, exchangeable
scan with probability at least 1 - α, whatever the network does (Vovk et al. 2005; Lei et al. 2018,
doi:10.1080/01621459.2017.1307116). Bands of *predicted* age are calibrated apart (Mondrian
conformal prediction, Vovk et al. 2005): the true age is not known when it is predicted.

A network pulls towards the mean age, so that in a band of old people the true age lies above the
prediction more often than below it. ``two_sided`` takes signed residuals and gives each tail α/2
(Romano et al. 2019, arXiv 1905.03222, section 6, does so for quantile regression).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from brainage.errors import BundleError, CohortError, ConfigError, ShapeError
from brainage.evaluation.metrics import check_columns, iterate_subgroups
from brainage.types import DoubleArray, Json

IntervalKind = Literal["absolute", "normalised", "two_sided"]
INTERVAL_COLUMNS = ("interval_low_years", "interval_high_years")
DEFAULT_LEVEL = 0.9

# A network that is certain of a year must not divide by almost nothing.
MIN_SPREAD_YEARS = 1.0
BAND_YEARS = 10.0


@dataclass(frozen=True)
class Calibration:
    """What intervals are made of; plain numbers, no scan and no age in it.

    Attributes
    ----------
    kind : {"absolute", "normalised", "two_sided"}
        Score |age - predicted|, |age - predicted| / spread, or age - predicted.
    edges_years : tuple of float
        Predicted ages at which one band ends and the next begins; empty: one band.
    scores : tuple of tuple of float
        Sorted scores of each band, one a person.
    source : str
        Where the scores come from: validation, out_of_fold, or a site's controls.
    offset_years : float
        Subtracted from every prediction first: a site's mean gap.
    """

    kind: IntervalKind
    edges_years: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...]
    source: str
    offset_years: float = 0.0

    @property
    def n(self) -> int:
        """Number of people that it was fitted on."""
        return sum(len(band) for band in self.scores)

    def to_json(self) -> Json:
        """Plain values for a JSON file."""
        values = asdict(self)
        return values | {"scores": [[round(s, 4) for s in band] for band in self.scores]}


def calibration_from_json(values: Any) -> Calibration:
    """Rebuild a calibration from a bundle's facts.

    Raises
    ------
    BundleError
        If the values are not those of a calibration.
    """
    try:
        calibration = Calibration(
            kind=values["kind"],
            edges_years=tuple(float(edge) for edge in values["edges_years"]),
            scores=tuple(tuple(float(s) for s in band) for band in values["scores"]),
            source=str(values["source"]),
            offset_years=float(values["offset_years"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError("calibration", "is not readable.", "Calibrate anew.") from error
    if len(calibration.scores) != len(calibration.edges_years) + 1:
        raise BundleError("calibration", "has another number of bands than of scores.")
    edges = np.array(calibration.edges_years)
    if calibration.kind not in get_args(IntervalKind) or not (np.diff(edges) > 0).all():
        raise BundleError("calibration", "is not readable.", "Calibrate anew.")
    return calibration


def fit_calibration(
    age_years: ArrayLike,
    predicted_age_years: ArrayLike,
    spread_years: ArrayLike,
    *,
    subject_ids: Sequence[str] | None = None,
    kind: IntervalKind = "absolute",
    min_band_scans: int = 40,
    source: str = "validation",
) -> Calibration:
    """Collect the scores of scans that were not learned from.

    Parameters
    ----------
    age_years, predicted_age_years, spread_years : array_like (N,)
        Chronological and predicted ages and the predicted distributions' standard deviations.
    subject_ids : sequence of str (N,), optional
        Whose scan it is. Two scans of one person are not two independent scores: only the first
        of each person counts.
    min_band_scans : int
        Decades of predicted age are joined from below until each band holds so many people.

    Raises
    ------
    ShapeError
        If the arrays differ in length.
    CohortError
        If there is no scan.
    """
    age, predicted, spread = (
        np.asarray(values, dtype=np.float64)
        for values in (age_years, predicted_age_years, spread_years)
    )
    subjects = np.arange(age.size) if subject_ids is None else np.asarray(subject_ids, dtype=str)
    if not age.shape == predicted.shape == spread.shape == subjects.shape:
        shapes = [age.shape, predicted.shape, spread.shape, subjects.shape]
        raise ShapeError("calibration", f"expected four arrays (N,), got {shapes}.")
    if age.size == 0:
        raise CohortError("calibration", "needs at least one scan, got none.")
    first = np.sort(np.unique(subjects, return_index=True)[1])
    age, predicted, spread = age[first], predicted[first], spread[first]
    scores = age - predicted
    if kind != "two_sided":
        scores = np.abs(scores) / _scale(spread, kind)
    edges = choose_edges(predicted, min_band_scans)
    bands = np.digitize(predicted, edges)
    return Calibration(
        kind=kind,
        edges_years=edges,
        scores=tuple(
            tuple(np.sort(scores[bands == band]).tolist()) for band in range(len(edges) + 1)
        ),
        source=source,
    )


def choose_edges(predicted: DoubleArray, min_band_scans: int) -> tuple[float, ...]:
    """Decades of predicted age, joined until every band holds enough scans."""
    low, high = (
        BAND_YEARS * math.floor(edge / BAND_YEARS) for edge in (min(predicted), max(predicted))
    )
    edges: list[float] = []
    start = -math.inf
    for edge in np.arange(low + BAND_YEARS, high + BAND_YEARS, BAND_YEARS):
        inside = np.count_nonzero((predicted >= start) & (predicted < edge))
        if min(inside, np.count_nonzero(predicted >= edge)) >= min_band_scans:
            edges.append(float(edge))
            start = float(edge)
    return tuple(edges)


def conformal_quantile(scores: Sequence[float] | DoubleArray, level: float) -> float:
    """The ⌈(n + 1)·level⌉-th smallest of n sorted scores; infinite where n is too small.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError("--level", f"expected a level between 0 and 1, got {level:g}.")
    # 1e-9 absorbs the rounding of products like 0.9 * 10.
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def predict_intervals(
    calibration: Calibration,
    predicted_age_years: ArrayLike,
    spread_years: ArrayLike,
    level: float = DEFAULT_LEVEL,
) -> NDArray[np.float64]:
    """Interval around each predicted age, which must have the offset already subtracted.

    Returns
    -------
    numpy.ndarray of float64 (N, 2)
        Low and high in years; NaN where the calibration has too few people for the level.
    """
    predicted = np.asarray(predicted_age_years, dtype=np.float64)
    spread = np.asarray(spread_years, dtype=np.float64)
    quantiles = np.array(
        [_band_bounds(band, level, calibration.kind) for band in calibration.scores]
    )
    bounds = quantiles[np.digitize(predicted, calibration.edges_years)]
    bounds = bounds * _scale(spread, calibration.kind)[:, None]
    bounds[~np.isfinite(bounds)] = np.nan
    return predicted[:, None] + bounds


def _band_bounds(scores: Sequence[float], level: float, kind: IntervalKind) -> tuple[float, float]:
    """What is added to a prediction for the lower and the upper bound; infinite if n is too small.

    Two tails need about twice as many people as one; where a band has too few, the absolute
    residuals give both. The prediction itself is never left outside.
    """
    if kind != "two_sided":
        half = conformal_quantile(scores, level)
        return -half, half
    residuals = np.asarray(scores)
    tail = 1 - (1 - level) / 2
    below, above = (conformal_quantile(np.sort(side), tail) for side in (-residuals, residuals))
    if math.isinf(above):
        half = conformal_quantile(np.sort(np.abs(residuals)), level)
        return -half, half
    return min(-below, 0.0), max(above, 0.0)


def out_of_fold_intervals(
    table: pd.DataFrame,
    folds: ArrayLike,
    *,
    kind: IntervalKind = "absolute",
    min_band_scans: int = 40,
    level: float = DEFAULT_LEVEL,
) -> pd.DataFrame:
    """Add intervals to out-of-fold predictions, each fold calibrated on the other folds.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, `predicted_age_years`, `spread_years`, `subject_id`.
    folds : array_like (N,)
        Fold of each scan; a person's scans share one.
    """
    labels = np.asarray(folds)
    bounds = np.full((len(table), 2), np.nan)
    for fold in np.unique(labels):
        held, rest = table[labels == fold], table[labels != fold]
        if rest.empty:
            continue
        calibration = fit_calibration(
            rest["age_years"],
            rest["predicted_age_years"],
            rest["spread_years"],
            subject_ids=list(rest["subject_id"]),
            kind=kind,
            min_band_scans=min_band_scans,
        )
        predicted, spread = held["predicted_age_years"], held["spread_years"]
        bounds[labels == fold] = predict_intervals(calibration, predicted, spread, level)
    return table.assign(**dict(zip(INTERVAL_COLUMNS, bounds.T, strict=True)))


def recalibrate(
    calibration_kind: IntervalKind,
    age_years: ArrayLike,
    predicted_age_years: ArrayLike,
    spread_years: ArrayLike,
    source: str,
) -> Calibration:
    """Offset and one band of scores from a site's own healthy controls.

    The offset is the mean gap. Each score is taken with the offset of the *other* controls: the
    residual around the own mean is too small by (n - 1)/n.

    Raises
    ------
    ShapeError, CohortError
        As `fit_calibration`.
    """
    gap = np.asarray(predicted_age_years, np.float64) - np.asarray(age_years, np.float64)
    offset = float(gap.mean())
    left_out = (gap - offset) * (gap.size / max(gap.size - 1, 1))
    fitted = fit_calibration(
        np.zeros_like(left_out),
        left_out,
        spread_years,
        kind=calibration_kind,
        min_band_scans=gap.size + 1,
        source=source,
    )
    return replace(fitted, offset_years=offset)


def coverage_table(table: pd.DataFrame) -> pd.DataFrame:
    """How often intervals hold the chronological age: overall and by age band, sex and site.

    Parameters
    ----------
    table : pandas.DataFrame
        `age_years`, `predicted_age_years` and `INTERVAL_COLUMNS`; scans without an interval are
        left out.

    Returns
    -------
    pandas.DataFrame
        `group`, `value`, `n`, `coverage` with its 95 % Clopper-Pearson interval
        `coverage_ci_low`, `coverage_ci_high`, and `mean_width_years`.

    Raises
    ------
    CohortError
        If a column is missing.
    """
    check_columns(table, ("age_years", "predicted_age_years", *INTERVAL_COLUMNS), "intervals")
    known = table.dropna(subset=["age_years", *INTERVAL_COLUMNS])
    if known.empty:
        return pd.DataFrame(columns=["group", "value", "n", "coverage", "mean_width_years"])
    rows = [{"group": "all", "value": "all", **_coverage(known)}]
    rows += [
        {"group": group, "value": value, **_coverage(part)}
        for group, value, part in iterate_subgroups(known)
    ]
    return pd.DataFrame(rows)


def _coverage(part: pd.DataFrame) -> dict[str, Any]:
    low, high = (part[name] for name in INTERVAL_COLUMNS)
    inside = (low <= part["age_years"]) & (part["age_years"] <= high)
    exact = stats.binomtest(int(inside.sum()), len(part)).proportion_ci(method="exact")
    return {
        "n": len(part),
        "coverage": float(inside.mean()),
        "coverage_ci_low": float(exact.low),
        "coverage_ci_high": float(exact.high),
        "mean_width_years": float((high - low).mean()),
    }


def _scale(spread: DoubleArray, kind: IntervalKind) -> DoubleArray:
    if kind != "normalised":
        return np.ones_like(spread)
    return np.maximum(spread, MIN_SPREAD_YEARS)
