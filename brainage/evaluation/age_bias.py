"""Correct age bias: predictions pull towards the mean age, so the gap falls with age.

Three published corrections, each a line fitted on controls. Beheshti et al. 2019
(doi:10.1016/j.nicl.2019.102063) subtract the fitted gap at the person's age; de Lange et al. 2019
(doi:10.1073/pnas.1902376116) add what the fitted prediction lacks at that age, which is the same
number; Cole et al. 2018 (doi:10.1038/mp.2017.62) invert the fitted line and need no age.

The trap: the first two put the true age into the "corrected" prediction. A model that knows nothing
gets a fine corrected MAE and r (Butler et al. 2021, doi:10.1002/hbm.25533). So raw metrics come
first, no accuracy is ever computed of corrected values, and a useless model is called so.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from brainage.errors import CohortError, ConfigError, ShapeError
from brainage.evaluation.measures import check_columns
from brainage.evaluation.metrics import Number, age_metrics, check_pair, constant_predictor
from brainage.types import BoolArray, DoubleArray

Correction = Literal["beheshti", "de_lange", "cole"]
CORRECTIONS: tuple[str, ...] = get_args(Correction)
CORRECTED_COLUMN = "brain_age_gap_corrected_years"
MIN_CONTROLS = 10


class AgeBiasCorrector(BaseEstimator):
    """Correct the brain-age gap for its dependence on age, by a line fitted on controls.

    Report raw metrics first: a corrected gap contains the true age, so that errors and
    correlations of "corrected" predictions look fine for a useless model. Never fit on the scans
    that are corrected: `correct_out_of_fold` keeps them apart.

    Parameters
    ----------
    method : {"beheshti", "de_lange", "cole"}
        The first two subtract the fitted gap at the person's age, which is the same number; Cole
        et al. invert the fitted line.

    Attributes
    ----------
    slope_, intercept_ : float
        Line fitted on controls: predicted = slope · age + intercept.
    slope_error_ : float
        Standard error of the slope.

    Examples
    --------
    >>> import numpy as np
    >>> import brainage
    >>> age = np.linspace(20, 80, 13)
    >>> predicted = 0.5 * age + 25  # pulls towards 50 years
    >>> corrector = brainage.AgeBiasCorrector().fit(predicted, age)
    >>> round(corrector.slope_, 2)
    0.5
    >>> corrector.transform([48.0], [40.0])  # 3 years older than controls of that age
    array([3.])
    """

    def __init__(self, method: Correction = "beheshti") -> None:
        self.method = method

    def fit(self, predicted_age_years: ArrayLike, age_years: ArrayLike) -> "AgeBiasCorrector":
        """Fit the least-squares line of predicted on chronological age.

        Parameters
        ----------
        predicted_age_years, age_years : array_like (N,)
            Of controls, by a model that was not trained on them.

        Raises
        ------
        ShapeError
            If the arrays are not (N,) of one length.
        CohortError
            If there are fewer than 10 controls, they are all of one age, or a value is not finite.
        """
        age = np.asarray(age_years, dtype=np.float64)
        if age.size < MIN_CONTROLS or np.ptp(age) == 0:
            came = f"{age.size} controls over {np.ptp(age) if age.size else 0:.0f} years"
            problem = f"needs at least {MIN_CONTROLS} controls of several ages, got {came}."
            raise CohortError("age-bias correction", problem)
        predicted, age = check_pair(predicted_age_years, age, "age-bias correction")
        centred = age - age.mean()
        self.slope_ = float(centred @ (predicted - predicted.mean()) / (centred @ centred))
        self.intercept_ = float(predicted.mean() - self.slope_ * age.mean())
        left = predicted - self.slope_ * age - self.intercept_
        self.slope_error_ = float(np.sqrt(left @ left / (age.size - 2) / (centred @ centred)))
        return self

    def transform(self, predicted_age_years: ArrayLike, age_years: ArrayLike) -> DoubleArray:
        """Return the corrected brain-age gap (N,) in years.

        Raises
        ------
        ShapeError
            If the arrays differ in shape.
        ConfigError
            If the method is unknown.
        CohortError
            If Cole's line does not rise beyond chance, so that it cannot be inverted.
        """
        check_is_fitted(self, "slope_")
        age = np.asarray(age_years, dtype=np.float64)
        predicted = np.asarray(predicted_age_years, dtype=np.float64)
        if age.shape != predicted.shape:  # which numpy would broadcast
            shapes = f"{predicted.shape} and {age.shape}"
            raise ShapeError("age-bias correction", f"expected two arrays (N,), got {shapes}.")
        if self.method in ("beheshti", "de_lange"):
            # Beheshti: gap - (α·age + β) with α = slope - 1; de Lange: predicted + (age -
            # expected) - age. Both are predicted - expected.
            return predicted - (self.slope_ * age + self.intercept_)
        if self.method != "cole":
            known = ", ".join(CORRECTIONS)
            problem = f"unknown method {self.method!r}."
            raise ConfigError("--correct-bias", problem, f"Known: {known}.")
        if self.slope_ < max(1e-3, 1.96 * self.slope_error_):
            told = f"slope {self.slope_:.4f}, standard error {self.slope_error_:.4f}"
            problem = f"predictions do not rise with age beyond chance ({told})."
            raise CohortError("age-bias correction", problem, "There is nothing to invert.")
        return (predicted - self.intercept_) / self.slope_ - age


def correct_out_of_fold(
    table: pd.DataFrame, method: Correction, controls: BoolArray, folds: Sequence[int] | DoubleArray
) -> pd.DataFrame:
    """Add the corrected gap, each fold corrected by a line fitted on the other folds' controls.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, `predicted_age_years`; predictions are left as they are.
    controls : numpy.ndarray of bool (N,)
        Scans that the line may be fitted on.
    folds : sequence of int (N,)
        Fold of each scan; a person's scans share one.

    Returns
    -------
    pandas.DataFrame
        The table with `brain_age_gap_corrected_years`.

    Raises
    ------
    CohortError, ConfigError
        As `AgeBiasCorrector`.
    """
    check_columns(table, ("age_years", "predicted_age_years"), "age-bias correction")
    labels = np.asarray(folds)
    age, predicted = (
        table[name].to_numpy(np.float64) for name in ("age_years", "predicted_age_years")
    )
    corrected = np.full(len(table), np.nan)
    for fold in np.unique(labels):
        held, fitted = labels == fold, (labels != fold) & controls
        corrector = AgeBiasCorrector(method).fit(predicted[fitted], age[fitted])
        corrected[held] = corrector.transform(predicted[held], age[held])
    return table.assign(**{CORRECTED_COLUMN: corrected})


def subject_folds(subject_ids: Sequence[str], folds: int = 5, seed: int = 0) -> DoubleArray:
    """Draw the fold of each scan, split by subject, for tables that name no folds."""
    codes = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)[1]
    people = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).permutation(np.arange(people) % min(folds, people))
    return drawn[codes].astype(np.float64)


def bias_report(table: pd.DataFrame, method: str, controls: BoolArray) -> dict[str, Any]:
    """Compare the slope of the gap on age before and after correction, on controls.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        Result of `correct_out_of_fold`.

    Returns
    -------
    dict
        `method`, `n_controls`, `raw_slope`, `corrected_slope`, `raw_r`, `raw_mae_years`,
        `constant_mae_years` and `warning`: empty, or why the correction must not be used. No
        error of the corrected values: it would be small for a useless model.
    """
    part = table[controls & table[CORRECTED_COLUMN].notna().to_numpy()]
    age = part["age_years"].to_numpy(np.float64)
    raw = age_metrics(age, part["predicted_age_years"], bootstrap=0)
    corrected = age_metrics(age, age + part[CORRECTED_COLUMN].to_numpy(np.float64), bootstrap=0)
    constant = float(np.abs(constant_predictor(age, age.size) - age).mean())
    return {
        "method": method,
        "n_controls": age.size,
        "raw_slope": raw["gap_slope"],
        "corrected_slope": corrected["gap_slope"],
        "raw_r": raw["r"],
        "raw_mae_years": raw["mae_years"],
        "constant_mae_years": constant,
        "warning": _warning(raw, constant),
    }


def _warning(raw: dict[str, Number], constant: float) -> str:
    mae, r = raw["mae_years"], raw["r"]
    assert mae is not None
    if r is None or r < 0.5 or mae >= constant:
        shown = "undefined" if r is None else f"{r:.2f}"
        return (
            f"the raw model is no better than a constant or hardly follows age (r {shown}, "
            f"MAE {mae:.1f} against {constant:.1f} years): its corrected gap means nothing."
        )
    return ""
