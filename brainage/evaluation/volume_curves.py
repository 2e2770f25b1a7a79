"""Volumes of healthy people against age: centile curves for each sex that do not cross."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import KFold

from brainage.errors import CohortError
from brainage.evaluation.measures import check_columns
from brainage.types import DoubleArray, Json

STRUCTURES = ("grey", "white", "fluid", "ventricles")
TISSUES = STRUCTURES[:3]
"""Ventricles are a part of the fluid; the three tissues make up the whole."""

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MIN_PEOPLE = 50
FOLDS = 10
# So many of each sex, on average one a fold: else the step between them is one person's, or none.
MIN_OF_SEX = FOLDS
# Ages are counted from the first in the second's units, so that coefficients are of one size.
_MIDDLE_YEARS, _UNIT_YEARS = 50.0, 20.0
# The spread is at least this part of its mean, however it changes with age.
_LEAST_SPREAD = 0.3


@dataclass(frozen=True)
class Curve:
    """One structure: the logarithm of its share, m + s·q, at each of `LEVELS`.

    Attributes
    ----------
    mean : tuple of float (4,)
        Of m, for 1, a, a² and female; a is the age from 50 years in units of 20.
    spread : tuple of float (3,)
        Of s, for 1 and a, and the least value.
    quantiles : tuple of float (5,)
        q at each level.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    quantiles: tuple[float, ...]

    def at(self, ages_years: DoubleArray, female: DoubleArray) -> DoubleArray:
        """Logarithms of shares (5, N)."""
        terms = _terms(ages_years, female)
        spread = np.maximum(terms[:, :2] @ np.array(self.spread[:2]), self.spread[2])
        found: DoubleArray = terms @ np.array(self.mean) + np.outer(self.quantiles, spread)
        return found


@dataclass(frozen=True)
class VolumeCurves:
    """Centile curves of each structure's share of the whole, by age and sex.

    Attributes
    ----------
    curves : dict of str to Curve
        For each structure.
    n : int
        People.
    ages_years : tuple of float
        The youngest and the oldest: curves go no further.
    coverage : dict of str to float
        Share of people outside the fit (ten folds) who lie between the outer curves, 0.9 at best.
    """

    curves: Mapping[str, Curve]
    n: int
    ages_years: tuple[float, float]
    coverage: Mapping[str, float]

    def centiles(self, structure: str, ages_years: ArrayLike, sex: str = "") -> DoubleArray:
        """Shares in percent (5, N) at `LEVELS`; without a sex, halfway between both.

        Parameters
        ----------
        ages_years : array_like (N,)
            Inside `ages_years` of the fit.
        sex : {"F", "M", ""}
        """
        female = {"F": 1.0, "M": 0.0}.get(sex, 0.5)
        ages = np.atleast_1d(np.asarray(ages_years, dtype=np.float64))
        found: DoubleArray = 100 * np.exp(
            self.curves[structure].at(ages, np.full(len(ages), female))
        )
        return found

    def knows(self, age_years: float) -> bool:
        """Tell whether the curves reach an age."""
        return self.ages_years[0] <= age_years <= self.ages_years[1]

    def to_json(self) -> Json:
        """Return a JSON object; nobody of the cohort is in it."""
        return {
            "curves": {name: asdict(curve) for name, curve in self.curves.items()},
            "levels": list(LEVELS),
            "n": self.n,
            "ages_years": list(self.ages_years),
            "coverage": dict(self.coverage),
        }


def curves_from_json(values: Json) -> VolumeCurves:
    """Read what `VolumeCurves.to_json` gave."""
    curves = {
        str(name): Curve(*(tuple(each[key]) for key in ("mean", "spread", "quantiles")))
        for name, each in values["curves"].items()
    }
    low, high = values["ages_years"]
    return VolumeCurves(curves, values["n"], (low, high), values["coverage"])


def fit_curves(table: pd.DataFrame) -> VolumeCurves:
    """Fit the curves of healthy people: one scan each, of known age and sex.

    The mean of each share's logarithm is a parabola in age with a step between the sexes, its
    spread a line in age, and the levels are quantiles of the residuals in units of the spread (He
    1997, Quantile curves without crossing, doi:10.1080/00031305.1997.10473959). Ages at the ends
    are rounded outwards to five years.

    Parameters
    ----------
    table : pandas.DataFrame
        `subject_id`, `age_years`, `sex` (F or M) and `grey_ml`, `white_ml`, `fluid_ml`,
        `ventricles_ml`; rows in which one is missing or 0 are left out, and all but a person's
        first.

    Raises
    ------
    CohortError
        If a column is missing, or fewer than 50 people, or 10 of either sex, are left.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> age = rng.uniform(20, 80, 200)
    >>> people = pd.DataFrame({
    ...     "subject_id": range(200),
    ...     "age_years": age,
    ...     "sex": ["F", "M"] * 100,
    ...     "grey_ml": 800 - 2 * age + rng.normal(0, 20, 200),
    ...     "white_ml": 500 + rng.normal(0, 10, 200),
    ...     "fluid_ml": 200 + 2 * age + rng.normal(0, 20, 200),
    ...     "ventricles_ml": 20 + rng.uniform(0, 10, 200),
    ... })
    >>> curves = fit_curves(people)
    >>> low, median, high = curves.centiles("grey", 50.0, "F")[[0, 2, 4], 0]
    >>> bool(low < median < high), round(float(median))
    (True, 47)
    """
    columns = [f"{name}_ml" for name in STRUCTURES]
    check_columns(table, ("subject_id", "age_years", "sex", *columns), "volume curves")
    known = table[table["sex"].isin(["F", "M"])].dropna(subset=["age_years", *columns])
    # A share of nothing has no logarithm.
    known = known[(known[columns] > 0).all(axis=1)].drop_duplicates("subject_id")
    if len(known) < MIN_PEOPLE:
        problem = f"{len(known)} people with volumes, age and sex; curves take {MIN_PEOPLE}."
        raise CohortError("volume curves", problem, "Give a larger cohort.")
    ages = known["age_years"].to_numpy(np.float64)
    female = np.asarray(known["sex"] == "F", dtype=np.float64)
    women, men = int(female.sum()), int((1 - female).sum())
    if min(women, men) < MIN_OF_SEX:
        problem = f"{women} women and {men} men; curves take {MIN_OF_SEX} of each."
        raise CohortError("volume curves", problem, "Give a cohort of both sexes.")
    shares = np.log(_shares(known))
    curves, coverage = {}, {}
    for name, values in zip(STRUCTURES, shares.T, strict=True):
        curves[name] = _fit(ages, female, values)
        coverage[name] = _cover(ages, female, values)
    low, high = 5 * np.floor(ages.min() / 5), 5 * np.ceil(ages.max() / 5)
    return VolumeCurves(curves, len(known), (float(low), float(high)), coverage)


def _shares(table: pd.DataFrame) -> DoubleArray:
    """Shares (N, 4) of the structures in the three tissues together."""
    millilitres = table[[f"{name}_ml" for name in STRUCTURES]].to_numpy(np.float64)
    shares: DoubleArray = millilitres / millilitres[:, : len(TISSUES)].sum(axis=1, keepdims=True)
    return shares


def _terms(ages: DoubleArray, female: DoubleArray) -> DoubleArray:
    moved = (ages - _MIDDLE_YEARS) / _UNIT_YEARS
    return np.stack([np.ones_like(moved), moved, moved**2, female], axis=1)


def _fit(ages: DoubleArray, female: DoubleArray, values: DoubleArray) -> Curve:
    terms = _terms(ages, female)
    mean = np.linalg.lstsq(terms, values, rcond=None)[0]
    residuals = values - terms @ mean
    size = np.abs(residuals)
    spread = np.linalg.lstsq(terms[:, :2], size, rcond=None)[0]
    least = _LEAST_SPREAD * float(size.mean())
    units = residuals / np.maximum(terms[:, :2] @ spread, least)
    quantiles = np.quantile(units, LEVELS, method="weibull")
    return Curve(tuple(mean.tolist()), (*spread.tolist(), least), tuple(quantiles.tolist()))


def _cover(ages: DoubleArray, female: DoubleArray, values: DoubleArray) -> float:
    """Share of people between the outer curves of a fit that they were not part of."""
    inside = np.zeros(len(values), dtype=bool)
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(values):
        lines = _fit(ages[train], female[train], values[train]).at(ages[test], female[test])
        inside[test] = (lines[0] <= values[test]) & (values[test] <= lines[-1])
    return float(inside.mean())
