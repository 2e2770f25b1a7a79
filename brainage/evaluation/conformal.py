"""Compute prediction intervals of ages that hold what they promise (split conformal).

`ConformalInterval` keeps the sorted scores of scans that the network did not learn from. The
interval at level 1 - α takes their ⌈(n + 1)(1 - α)⌉-th smallest score q and covers a new,
exchangeable scan with probability at least 1 - α, whatever the network does (Vovk et al. 2005; Lei
et al. 2018, doi:10.1080/01621459.2017.1307116). Bands of *predicted* age are calibrated apart
(Mondrian conformal prediction, Vovk et al. 2005): the true age is not known when it is predicted.

A network pulls towards the mean age, so that in a band of old people the true age lies above the
prediction more often than below it. ``two_sided`` takes signed residuals and gives each tail α/2
(Romano et al. 2019, arXiv 1905.03222, section 6, does so for quantile regression).
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from brainage.errors import BundleError, CohortError, ConfigError, ShapeError
from brainage.evaluation.bounds import (
    DEFAULT_LEVEL,
    INTERVAL_COLUMNS,
    IntervalKind,
    interval_bounds,
    score_scale,
)
from brainage.evaluation.measures import check_columns
from brainage.evaluation.metrics import iterate_subgroups
from brainage.evaluation.site_offset import leave_one_out_gaps, shrunken_offset
from brainage.types import DoubleArray, Json

BAND_YEARS = 10.0


class ConformalInterval(BaseEstimator):
    """Put prediction intervals around predicted ages (split conformal prediction).

    Fit on scans that the network did not learn from; never on the scans that are judged.

    Parameters
    ----------
    kind : {"two_sided", "absolute", "normalised"}
        Score age - predicted, |age - predicted|, or |age - predicted| / spread.
    min_band_scans : int
        Decades of predicted age are joined from below until each band holds so many people.

    Attributes
    ----------
    edges_years_ : tuple of float
        Predicted ages at which one band ends and the next begins; empty: one band.
    scores_ : tuple of tuple of float
        Sorted scores of each band, one a person.
    offset_years_ : float
        To be subtracted from every prediction first: a site's offset, after `fit_controls`.
    source_ : str
        Where the scores come from: validation, out_of_fold, or a site's controls.
    n_subjects_ : int
        Number of people that it was fitted on.

    Examples
    --------
    >>> import numpy as np
    >>> import brainage
    >>> age = np.linspace(20, 80, 99)
    >>> predicted = age + np.tile([-4.0, 0.0, 4.0], 33)
    >>> interval = brainage.ConformalInterval(kind="absolute").fit(predicted, age)
    >>> interval.predict([50.0], level=0.9)
    array([[46., 54.]])
    """

    def __init__(self, kind: IntervalKind = "two_sided", min_band_scans: int = 40) -> None:
        self.kind = kind
        self.min_band_scans = min_band_scans

    def fit(
        self,
        predicted_age_years: ArrayLike,
        age_years: ArrayLike,
        spread_years: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
        source: str = "validation",
    ) -> "ConformalInterval":
        """Collect the scores of scans that were not learned from.

        Parameters
        ----------
        predicted_age_years, age_years : array_like (N,)
            Predicted and chronological ages.
        spread_years : array_like (N,), optional
            Standard deviations of the predicted distributions, for ``kind="normalised"``.
        groups : sequence of str (N,), optional
            Whose scan it is. Two scans of one person are not two independent scores: only the
            first of each person counts.
        source : str
            Kept as `source_`.

        Raises
        ------
        ShapeError
            If the arrays differ in length.
        ConfigError
            If the kind is unknown, or a band shall hold less than one person.
        CohortError
            If there is no scan, a value is not finite, or a scan has no person.
        """
        if self.kind not in (known := get_args(IntervalKind)):
            problem = f"unknown kind {self.kind!r}."
            raise ConfigError("intervals", problem, f"Known: {', '.join(known)}.")
        if self.min_band_scans < 1:
            raise ConfigError("intervals", f"min_band_scans is {self.min_band_scans}.", "Give 1.")
        age, predicted = (np.asarray(v, np.float64) for v in (age_years, predicted_age_years))
        spread = _spread(spread_years, age, self.kind)
        subjects = np.arange(age.size) if groups is None else _people(groups)
        if not age.shape == predicted.shape == spread.shape == subjects.shape:
            shapes = [predicted.shape, age.shape, spread.shape, subjects.shape]
            raise ShapeError("calibration", f"expected four arrays (N,), got {shapes}.")
        if age.size == 0:
            raise CohortError("calibration", "needs at least one scan, got none.")
        bad = int((~np.isfinite(age) | ~np.isfinite(predicted) | ~np.isfinite(spread)).sum())
        if bad:  # a score that is not finite would be counted, as the largest
            problem = f"{bad} of {age.size} scans have values that are not finite."
            raise CohortError("calibration", problem, "Drop those scans.")
        first = np.sort(np.unique(subjects, return_index=True)[1])
        age, predicted, spread = age[first], predicted[first], spread[first]
        scores = age - predicted
        if self.kind != "two_sided":
            scores = np.abs(scores) / score_scale(spread, self.kind)
        edges = choose_edges(predicted, self.min_band_scans)
        bands = np.digitize(predicted, edges)
        self._set(
            edges,
            tuple(tuple(np.sort(scores[bands == b]).tolist()) for b in range(len(edges) + 1)),
            source,
        )
        return self

    def fit_controls(
        self,
        predicted_age_years: ArrayLike,
        age_years: ArrayLike,
        spread_years: ArrayLike | None = None,
        source: str = "controls",
    ) -> "ConformalInterval":
        """Fit an offset and one band of scores on a site's own healthy controls.

        The offset is `shrunken_offset` of their gaps: 0 where controls so few cannot show that it
        would help. Each score is taken with the offset that the *other* controls give.

        Parameters
        ----------
        predicted_age_years, age_years, spread_years : array_like (N,)
            As in `fit`.

        Raises
        ------
        ShapeError, CohortError
            As `fit`.
        """
        gap = np.asarray(predicted_age_years, np.float64) - np.asarray(age_years, np.float64)
        left_out = leave_one_out_gaps(gap)
        one_band = ConformalInterval(self.kind, gap.size + 1)
        one_band.fit(left_out, np.zeros_like(left_out), spread_years, source=source)
        self._set(one_band.edges_years_, one_band.scores_, source, shrunken_offset(gap))
        return self

    def predict(
        self,
        predicted_age_years: ArrayLike,
        spread_years: ArrayLike | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> NDArray[np.float64]:
        """Return the interval around each predicted age, its offset already subtracted.

        Parameters
        ----------
        predicted_age_years, spread_years : array_like (N,)
            As in `fit`.
        level : float
            Share of ages that the intervals shall hold.

        Returns
        -------
        numpy.ndarray of float64 (N, 2)
            Low and high in years; NaN where there are too few people for the level.

        Raises
        ------
        ShapeError
            If the arrays are not (N,) of one length.
        ConfigError
            If the level is not between 0 and 1.
        """
        check_is_fitted(self, "scores_")
        predicted = np.asarray(predicted_age_years, dtype=np.float64)
        spread = _spread(spread_years, predicted, self.kind)
        if predicted.ndim != 1 or spread.shape != predicted.shape:
            shapes = f"{predicted.shape} and {spread.shape}"
            raise ShapeError("intervals", f"expected two arrays (N,), got {shapes}.")
        return interval_bounds(predicted, spread, self.edges_years_, self.scores_, self.kind, level)

    def to_json(self) -> Json:
        """Return plain values for a JSON file: no scan and no age is in them."""
        return {
            "kind": self.kind,
            "edges_years": list(self.edges_years_),
            "scores": [[round(score, 4) for score in band] for band in self.scores_],
            "source": self.source_,
            "offset_years": self.offset_years_,
        }

    @classmethod
    def from_json(cls, values: Any) -> "ConformalInterval":
        """Rebuild fitted intervals from a bundle's facts.

        Raises
        ------
        BundleError
            If the values are not those of intervals.
        """
        try:
            interval = cls(values["kind"])
            interval._set(
                tuple(float(edge) for edge in values["edges_years"]),
                tuple(tuple(float(s) for s in band) for band in values["scores"]),
                str(values["source"]),
                float(values["offset_years"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("calibration", "is not readable.", "Calibrate anew.") from error
        if len(interval.scores_) != len(interval.edges_years_) + 1:
            raise BundleError("calibration", "has another number of bands than of scores.")
        rising = (np.diff(np.array(interval.edges_years_)) > 0).all()
        if interval.kind not in get_args(IntervalKind) or not rising:
            raise BundleError("calibration", "is not readable.", "Calibrate anew.")
        return interval

    def _set(
        self,
        edges_years: tuple[float, ...],
        scores: tuple[tuple[float, ...], ...],
        source: str,
        offset_years: float = 0.0,
    ) -> None:
        self.edges_years_, self.scores_ = edges_years, scores
        self.source_, self.offset_years_ = source, offset_years
        self.n_subjects_ = sum(len(band) for band in scores)


def choose_edges(predicted: DoubleArray, min_band_scans: int) -> tuple[float, ...]:
    """Join decades of predicted age until every band holds enough scans; return their edges."""
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
        fitted = ConformalInterval(kind, min_band_scans).fit(
            rest["predicted_age_years"],
            rest["age_years"],
            rest["spread_years"],
            list(rest["subject_id"]),
        )
        predicted, spread = held["predicted_age_years"], held["spread_years"]
        bounds[labels == fold] = fitted.predict(predicted, spread, level)
    return table.assign(**dict(zip(INTERVAL_COLUMNS, bounds.T, strict=True)))


def coverage_table(table: pd.DataFrame) -> pd.DataFrame:
    """Count how often intervals hold the chronological age: overall, by age band, sex and site.

    Parameters
    ----------
    table : pandas.DataFrame
        `age_years`, `predicted_age_years`, `INTERVAL_COLUMNS`, and `subject_id` where people may
        have several scans; scans without an interval are left out.

    Returns
    -------
    pandas.DataFrame
        `group`, `value`, `n` scans, the share `coverage` of them with its 95 % Clopper-Pearson
        interval `coverage_ci_low`, `coverage_ci_high`, and `mean_width_years`. The interval counts
        people, not scans, as Korn and Graubard (1998) do with an effective number.

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
    # Takes a second to import, and predictions need none of it.
    from scipy.stats import beta

    low, high = (part[name] for name in INTERVAL_COLUMNS)
    inside = (low <= part["age_years"]) & (part["age_years"] <= high)
    people = part["subject_id"].nunique() if "subject_id" in part else len(part)
    held = people * inside.mean()
    missed = people - held
    return {
        "n": len(part),
        "coverage": float(inside.mean()),
        "coverage_ci_low": float(beta.ppf(0.025, held, missed + 1)) if held else 0.0,
        "coverage_ci_high": float(beta.ppf(0.975, held + 1, missed)) if missed else 1.0,
        "mean_width_years": float((high - low).mean()),
    }


def _people(groups: Sequence[str]) -> NDArray[np.str_]:
    """Return whose scan each is; scans without a person would count as one person's."""
    names = pd.Series(list(groups), dtype=object)
    unknown = names.isna() | (names.astype(str).str.strip() == "")
    if unknown.any():
        problem = f"{int(unknown.sum())} of {len(unknown)} scans have no person in `groups`."
        raise CohortError("calibration", problem, "Name a person for each, or leave groups out.")
    return np.asarray(groups, dtype=str)


def _spread(spread_years: ArrayLike | None, like: DoubleArray, kind: IntervalKind) -> DoubleArray:
    """Return spreads of N scans; only normalised scores read them."""
    if spread_years is not None:
        return np.asarray(spread_years, dtype=np.float64)
    if kind == "normalised":
        raise ShapeError("calibration", "normalised scores need spread_years.")
    return np.zeros_like(like)
