"""Age bias: predictions pull towards the mean age, so the gap falls with age.

Three published corrections, each a line fitted on controls. Beheshti et al. 2019
(doi:10.1016/j.nicl.2019.102063) subtract the fitted gap at the person's age; de Lange et al. 2019
(doi:10.1073/pnas.1902376116) add what the fitted prediction lacks at that age, which is the same
number; Cole et al. 2018 (doi:10.1038/mp.2017.62) invert the fitted line and need no age.

The trap: the first two put the true age into the "corrected" prediction. A model that knows nothing
gets a fine corrected MAE and r (Butler et al. 2021, doi:10.1002/hbm.25533). So raw metrics come
first, no accuracy is ever computed of corrected values, and a useless model is called so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from brainage.errors import CohortError, ConfigError
from brainage.evaluation.metrics import Number, age_metrics, check_columns, constant_predictor
from brainage.types import BoolArray, DoubleArray

Correction = Literal["beheshti", "de_lange", "cole"]
CORRECTIONS: tuple[str, ...] = get_args(Correction)
CORRECTED_COLUMN = "brain_age_gap_corrected_years"
MIN_CONTROLS = 10


@dataclass(frozen=True)
class AgeBias:
    """Line fitted on controls: predicted = slope · age + intercept."""

    slope: float
    intercept: float


def fit_age_bias(age_years: ArrayLike, predicted_age_years: ArrayLike) -> AgeBias:
    """Least-squares line of predicted on chronological age.

    Raises
    ------
    CohortError
        If there are fewer than 10 controls or they are all of one age.
    """
    age = np.asarray(age_years, dtype=np.float64)
    predicted = np.asarray(predicted_age_years, dtype=np.float64)
    if age.size < MIN_CONTROLS or np.ptp(age) == 0:
        came = f"{age.size} controls over {np.ptp(age) if age.size else 0:.0f} years"
        problem = f"needs at least {MIN_CONTROLS} controls of several ages, got {came}."
        raise CohortError("age-bias correction", problem)
    centred = age - age.mean()
    slope = float(centred @ (predicted - predicted.mean()) / (centred @ centred))
    return AgeBias(slope, float(predicted.mean() - slope * age.mean()))


def correct_gap(
    bias: AgeBias, age_years: ArrayLike, predicted_age_years: ArrayLike, method: Correction
) -> DoubleArray:
    """Corrected brain-age gap (N,) in years.

    Raises
    ------
    ConfigError
        If the method is unknown.
    CohortError
        If Cole's line cannot be inverted.
    """
    age = np.asarray(age_years, dtype=np.float64)
    predicted = np.asarray(predicted_age_years, dtype=np.float64)
    expected = bias.slope * age + bias.intercept
    if method in ("beheshti", "de_lange"):
        # Beheshti: gap - (α·age + β) with α = slope - 1; de Lange: predicted + (age - expected) -
        # age. Both are predicted - expected.
        return predicted - expected
    if method != "cole":
        known = ", ".join(CORRECTIONS)
        raise ConfigError("--correct-bias", f"unknown method {method!r}.", f"Known: {known}.")
    if abs(bias.slope) < 1e-3:
        problem = f"predictions do not rise with age (slope {bias.slope:.4f}); nothing to invert."
        raise CohortError("age-bias correction", problem, "The model is useless on these scans.")
    return (predicted - bias.intercept) / bias.slope - age


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
        As `fit_age_bias` and `correct_gap`.
    """
    check_columns(table, ("age_years", "predicted_age_years"), "age-bias correction")
    labels = np.asarray(folds)
    age, predicted = (
        table[name].to_numpy(np.float64) for name in ("age_years", "predicted_age_years")
    )
    corrected = np.full(len(table), np.nan)
    for fold in np.unique(labels):
        held, fitted = labels == fold, (labels != fold) & controls
        bias = fit_age_bias(age[fitted], predicted[fitted])
        corrected[held] = correct_gap(bias, age[held], predicted[held], method)
    return table.assign(**{CORRECTED_COLUMN: corrected})


def subject_folds(subject_ids: Sequence[str], folds: int = 5, seed: int = 0) -> DoubleArray:
    """Fold of each scan, people dealt at random, for tables that name no folds."""
    codes = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)[1]
    people = int(codes.max()) + 1
    dealt = np.random.default_rng(seed).permutation(np.arange(people) % min(folds, people))
    return dealt[codes].astype(np.float64)


def bias_report(table: pd.DataFrame, method: str, controls: BoolArray) -> dict[str, Any]:
    """Slope of the gap on age before and after correction, on controls, and whether to believe it.

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
