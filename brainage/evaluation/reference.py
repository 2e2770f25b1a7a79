"""How a model did on people it had not learned from: points to set one person beside.

Kept in a bundle so that a report can draw a person on the cohort's scatter. Ages are rounded to
whole years, people above `OLDEST_SHOWN_YEARS` are left out (so few reach that age that it tells
who they are), one point a person, sorted by age: no id, no order of the table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainage.errors import BundleError, CohortError
from brainage.evaluation.age_bias import correct_gap, fit_age_bias
from brainage.evaluation.metrics import check_columns
from brainage.types import DoubleArray, Json

OLDEST_SHOWN_YEARS = 89
# People of about the same age, widened until enough are there for a percentile.
WINDOWS_YEARS = (2.5, 5.0, 7.5, 10.0)
MIN_MATCHED = 20


@dataclass(frozen=True, eq=False)
class Reference:
    """Held-out people of a model's cohort.

    Attributes
    ----------
    source : str
        ``held_out`` (validation and test scans of one run) or ``out_of_fold``.
    age_years : numpy.ndarray of float64 (N,)
        Rounded to whole years.
    brain_age_gap_years : numpy.ndarray of float64 (N,)
        Predicted minus exact age, to 0.1 years.
    """

    source: str
    age_years: DoubleArray
    brain_age_gap_years: DoubleArray

    @property
    def predicted_age_years(self) -> DoubleArray:
        """Predicted ages (N,), as exact as the rounded ages."""
        return self.age_years + self.brain_age_gap_years

    def to_json(self) -> Json:
        """Plain values for a JSON file."""
        return {
            "source": self.source,
            "age_years": [int(age) for age in self.age_years],
            "brain_age_gap_years": [round(float(gap), 1) for gap in self.brain_age_gap_years],
        }


@dataclass(frozen=True)
class MatchedPercentile:
    """Where a gap lies among people of about the same age.

    Attributes
    ----------
    percentile : float
        Share, in percent, of these people with a smaller gap; equal ones count half.
    n : int
        Number of these people.
    window_years : float
        They are at most so many years older or younger.
    """

    percentile: float
    n: int
    window_years: float


def make_reference(table: pd.DataFrame, source: str) -> Reference:
    """Points of held-out scans, one a person.

    Parameters
    ----------
    table : pandas.DataFrame
        `subject_id`, `age_years`, `predicted_age_years`.
    source : str
        ``held_out`` or ``out_of_fold``.

    Raises
    ------
    CohortError
        If a column is missing.
    """
    check_columns(table, ("subject_id", "age_years", "predicted_age_years"), "reference")
    first = table.drop_duplicates("subject_id").dropna(subset=["age_years", "predicted_age_years"])
    age = first["age_years"].to_numpy(np.float64)
    gap = np.round(first["predicted_age_years"].to_numpy(np.float64) - age, 1)
    shown = np.floor(age) <= OLDEST_SHOWN_YEARS
    age, gap = np.minimum(np.round(age), OLDEST_SHOWN_YEARS)[shown], gap[shown]
    order = np.lexsort((gap, age))
    return Reference(source, age[order], gap[order])


def reference_from_json(values: Any) -> Reference:
    """Rebuild a reference from a bundle's facts.

    Raises
    ------
    BundleError
        If the values are not those of a reference.
    """
    try:
        age = np.array(values["age_years"], dtype=np.float64)
        gap = np.array(values["brain_age_gap_years"], dtype=np.float64)
        source = str(values["source"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError("reference", "is not readable.", "Train anew.") from error
    if age.ndim != 1 or age.shape != gap.shape:
        raise BundleError("reference", "has another number of ages than of gaps.")
    return Reference(source, age, gap)


def match_percentile(
    reference: Reference, age_years: float, brain_age_gap_years: float
) -> MatchedPercentile | None:
    """Percentile of a raw gap among people of about the same age; None where they are too few.

    The gap falls with age in every model, so that its rank among all ages would mostly tell age.
    """
    distance = np.abs(reference.age_years - age_years)
    for window in WINDOWS_YEARS:
        gaps = reference.brain_age_gap_years[distance <= window]
        if gaps.size >= MIN_MATCHED:
            below = np.count_nonzero(gaps < brain_age_gap_years)
            equal = np.count_nonzero(gaps == brain_age_gap_years)
            share = (below + equal / 2) / gaps.size
            return MatchedPercentile(100.0 * float(share), int(gaps.size), window)
    return None


def corrected_gap(
    reference: Reference, age_years: float, brain_age_gap_years: float
) -> float | None:
    """Raw gap minus what the cohort's line expects at that age (Beheshti et al. 2019).

    None where the cohort is too small for a line. See `brainage.evaluation.age_bias`.
    """
    try:
        bias = fit_age_bias(reference.age_years, reference.predicted_age_years)
    except CohortError:
        return None
    predicted = age_years + brain_age_gap_years
    return float(correct_gap(bias, [age_years], [predicted], "beheshti")[0])
