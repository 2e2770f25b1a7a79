"""Normative reference: gaps of held-out people, to compare one person with.

Kept in a bundle so that a report can draw a person beside the cohort. A bundle holds no list of
ages: it counts people in cells of `AGE_CELL_YEARS` of age by `GAP_CELL_YEARS` of gap. People above
`OLDEST_SHOWN_YEARS` are left out (so few reach that age that it tells who they are), and a person
counts once. Points are spread evenly over their cell: each is wrong by up to a cell, the crowd is
right.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.errors import BundleError, CohortError
from brainage.evaluation.age_bias import AgeBiasCorrector
from brainage.evaluation.measures import check_columns
from brainage.types import DoubleArray, Json

OLDEST_SHOWN_YEARS = 89
AGE_CELL_YEARS, GAP_CELL_YEARS = 5, 2
# People of about the same age, widened until enough are there for a percentile.
WINDOWS_YEARS = (2.5, 5.0, 7.5, 10.0)
MIN_MATCHED = 20
MOST_PEOPLE = 1_000_000
# Within a cell ages are made up: a line needs several.
MIN_AGE_CELLS = 3


@dataclass(frozen=True, eq=False)
class Reference:
    """Held-out people of a model's cohort.

    Attributes
    ----------
    source : str
        ``held_out`` (validation and test scans of one run) or ``out_of_fold``.
    cells : numpy.ndarray of int64 (C, 3)
        Lower age and lower gap of a cell, in years, and how many people it holds.
    """

    source: str
    cells: NDArray[np.int64]

    @cached_property
    def points(self) -> DoubleArray:
        """Age and raw gap (N, 2) of as many points as people, spread over their cells."""
        spread = [_spread(count) for count in self.cells[:, 2]]
        corners = np.repeat(self.cells[:, :2], self.cells[:, 2], axis=0)
        inside = np.concatenate([np.empty((0, 2)), *spread])
        return corners + inside * [AGE_CELL_YEARS, GAP_CELL_YEARS]

    @property
    def age_years(self) -> DoubleArray:
        """Ages (N,)."""
        return self.points[:, 0]

    @property
    def brain_age_gap_years(self) -> DoubleArray:
        """Predicted minus chronological age (N,)."""
        return self.points[:, 1]

    @property
    def predicted_age_years(self) -> DoubleArray:
        """Predicted ages (N,)."""
        return self.age_years + self.brain_age_gap_years

    def to_json(self) -> Json:
        """Return plain values for a JSON file."""
        return {"source": self.source, "cells": self.cells.tolist()}


def _spread(count: int) -> DoubleArray:
    """Spread points (N, 2) evenly over the unit square (Fibonacci lattice)."""
    index = np.arange(count)
    golden = (np.sqrt(5.0) - 1) / 2
    return np.stack([(index + 0.5) / count, (index * golden + 0.5) % 1], axis=1)


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
    """Count held-out people by age and gap.

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
    gap = first["predicted_age_years"].to_numpy(np.float64) - age
    corners = np.stack([age // AGE_CELL_YEARS, gap // GAP_CELL_YEARS], axis=1)
    shown = corners[np.floor(age) <= OLDEST_SHOWN_YEARS] * [AGE_CELL_YEARS, GAP_CELL_YEARS]
    cells, counts = np.unique(shown.astype(np.int64), axis=0, return_counts=True)
    return Reference(source, np.column_stack([cells, counts]))


def held_out_metrics(facts: Json) -> Json:
    """Return errors on held-out people; of a finetuned model those of its new heads."""
    metrics: Json = facts.get("finetuned") or facts.get("metrics", {})
    return metrics


def reference_from_json(values: Any) -> Reference:
    """Rebuild a reference from a bundle's facts.

    Raises
    ------
    BundleError
        If the values are not those of a reference.
    """
    try:
        source, cells = str(values["source"]), np.array(values["cells"], dtype=np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError("reference", "is not readable.", "Train anew.") from error
    cells = cells.reshape(0, 3) if cells.size == 0 else cells
    if cells.ndim != 2 or cells.shape[1] != 3 or not 0 <= cells[:, 2].sum() <= MOST_PEOPLE:
        raise BundleError("reference", "does not count people in cells.", "Train anew.")
    if (cells[:, 2] < 0).any():
        raise BundleError("reference", "counts fewer people than none.", "Train anew.")
    return Reference(source, cells)


def match_percentile(
    reference: Reference, age_years: float, brain_age_gap_years: float
) -> MatchedPercentile | None:
    """Compute a raw gap's percentile among people of about its age; None where they are too few.

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
    """Compute the raw gap minus what the cohort's line expects at that age (Beheshti et al. 2019).

    None where the cohort is too small, or of too few ages, for a line. See
    `brainage.evaluation.age_bias`.
    """
    if len(np.unique(reference.cells[:, 0])) < MIN_AGE_CELLS:
        return None
    try:
        corrector = AgeBiasCorrector().fit(reference.predicted_age_years, reference.age_years)
    except CohortError:
        return None
    predicted = age_years + brain_age_gap_years
    return float(corrector.transform([predicted], [age_years])[0])
