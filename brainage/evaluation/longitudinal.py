"""Change of the brain-age gap per year in people who were scanned again."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from brainage.errors import CohortError
from brainage.evaluation.measures import as_floats, check_columns
from brainage.types import DoubleArray

GAP = "brain_age_gap_years"
MIN_PEOPLE = 3
# Own slopes need people with three scans: with two, they cannot be told from noise.
_MIN_SLOPES = 10
# Ages in whole years are off by up to one; times may be rounded, too.
_ROUNDED_AGE_SD, _TIME_SLACK = 0.3, 0.2


@dataclass(frozen=True)
class GapChange:
    """Mean change of the gap per year: one row of the table.

    Attributes
    ----------
    n_subjects, n_scans : int
        People with scans at two times or more, and their scans.
    median_years : float
        Median time between a person's first and last scan.
    change_per_year : float
        Years of gap per year, with its 95 % interval `ci_low`, `ci_high` and two-sided `p`.
    slope_sd : float
        Standard deviation of people's own slopes around it; NaN where the model has none.
    residual_sd_years : float
        Standard deviation of what is left within a person.
    model : str
        What was fitted.
    """

    n_subjects: int
    n_scans: int
    median_years: float
    change_per_year: float
    ci_low: float
    ci_high: float
    p: float
    slope_sd: float
    residual_sd_years: float
    model: str


def repeated_people(table: pd.DataFrame, time: str = "age_years") -> pd.DataFrame:
    """Keep people with a known gap at two times or more, in order of time.

    Parameters
    ----------
    table : pandas.DataFrame
        `subject_id`, `age_years`, `brain_age_gap_years` and the column of times.
    time : str
        Column with the time of each scan in years, whatever its zero.

    Raises
    ------
    CohortError
        If a column is missing, times are no numbers, or ages do not move by a year where they do.
    """
    needed = list(dict.fromkeys(["age_years", GAP, time]))
    check_columns(table, ("subject_id", *needed), "longitudinal")
    years = as_floats(table[time])
    if (years.isna() & table[time].notna()).any():
        problem = f"column {time!r} holds what is not a number."
        raise CohortError("longitudinal", problem, "Give the time of each scan in years.")
    known = table.assign(**{time: years}).dropna(subset=needed)
    times = known.groupby("subject_id")[time]
    moved = (times.transform("max") - times.transform("min")) > 0
    people = known[moved].sort_values(["subject_id", time]).reset_index(drop=True)
    if time != "age_years":
        _check_years(people, time)
    return people


def _check_years(people: pd.DataFrame, time: str) -> None:
    """Refuse times that ages do not move with: of another unit, or beside the first scan's ages."""
    centred = people[["age_years", time]] - people.groupby("subject_id")[
        ["age_years", time]
    ].transform("mean")
    age, years = centred["age_years"].to_numpy(np.float64), centred[time].to_numpy(np.float64)
    scatter = float(years @ years)
    moved = float(years @ age) / scatter if scatter else 1.0
    if abs(moved - 1) > _TIME_SLACK + 4 * _ROUNDED_AGE_SD / np.sqrt(max(scatter, 1e-9)):
        problem = f"ages move by {moved:.2g} years where column {time!r} moves by 1."
        remedy = "Give each scan's own age, and its time in years."
        raise CohortError("longitudinal", problem, remedy)


def estimate_change(table: pd.DataFrame, time: str = "age_years") -> GapChange:
    """Estimate the mean change of the gap per year by a linear mixed model.

    gap = intercept + change · (time − the person's mean time) + slope of the person's mean age +
    person's own intercept + noise, by restricted maximum likelihood (Laird & Ware 1982,
    doi:10.2307/2529876). Time is centred within people, so that differences between people of
    different ages are no part of the change (Curran & Bauer 2011,
    doi:10.1146/annurev.psych.093008.100356). People's own slopes are added where ten people or
    more have scans at three times. The interval is that of Student's t with people − 1 degrees of
    freedom: for two equally spaced scans each it is that of the paired differences.

    Parameters
    ----------
    table, time
        As in `repeated_people`; people scanned once are left out.

    Raises
    ------
    CohortError
        As `repeated_people`; if fewer than 3 people have scans at two times, all gaps of each
        person are equal, or the model has no solution.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({
    ...     "subject_id": ["a", "a", "b", "b", "c", "c"],
    ...     "age_years": [60, 62, 70, 72, 65, 67],
    ...     "brain_age_gap_years": [0.0, 1.1, 3.0, 4.0, -2.0, -1.1],
    ... })
    >>> round(estimate_change(table).change_per_year, 2)
    0.5
    """
    people = repeated_people(table, time)
    groups = people.groupby("subject_id")
    if groups.ngroups < MIN_PEOPLE:
        problem = f"{groups.ngroups} people have scans at two times or more, by column {time!r}."
        rounded = " If ages are rounded, name the column of the times by --time."
        remedy = f"At least {MIN_PEOPLE} are needed.{rounded if time == 'age_years' else ''}"
        raise CohortError("longitudinal", problem, remedy)
    if np.allclose(groups[GAP].transform("std"), 0):
        raise CohortError("longitudinal", "the gap of no person changes at all.")
    within = (people[time] - groups[time].transform("mean")).to_numpy(np.float64)
    age = groups["age_years"].transform("mean").to_numpy(np.float64)
    design = np.column_stack([np.ones(len(people)), within, (age - age.mean()) / 10])
    if np.ptp(age) == 0:
        design = design[:, :2]
    own_slopes = int((groups[time].nunique() >= MIN_PEOPLE).sum()) >= _MIN_SLOPES
    fit = _fit(people, design, within if own_slopes else None)
    change, error = float(fit.fe_params.iloc[1]), float(fit.bse_fe.iloc[1])
    freedom = groups.ngroups - 1
    half = float(stats.t.ppf(0.975, freedom)) * error
    spread = np.asarray(fit.cov_re, dtype=np.float64)
    has_slopes = len(spread) > 1
    span = groups[time].max() - groups[time].min()
    return GapChange(
        n_subjects=groups.ngroups,
        n_scans=len(people),
        median_years=float(span.median()),
        change_per_year=change,
        ci_low=change - half,
        ci_high=change + half,
        p=2 * float(stats.t.sf(abs(change) / error, freedom)),
        slope_sd=float(np.sqrt(max(spread[1, 1], 0))) if has_slopes else float("nan"),
        residual_sd_years=float(np.sqrt(fit.scale)),
        model="own intercepts and slopes" if has_slopes else "own intercepts",
    )


def _fit(people: pd.DataFrame, design: DoubleArray, slopes: DoubleArray | None) -> Any:
    """Fit with own slopes where they are asked for and converge, else with intercepts alone."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    ones = np.ones(len(people))
    names = ["intercept", "years", "mean_age"][: design.shape[1]]
    exog = pd.DataFrame(design, columns=names, index=people.index)
    random = [ones[:, None]] if slopes is None else [np.column_stack([ones, slopes]), ones[:, None]]
    rough: Any = None
    for effects in random:
        model = MixedLM(people[GAP].astype(float), exog, people["subject_id"], effects)
        for method in ("lbfgs", "powell"):
            fit = _try_fit(model, method)
            if fit is not None and fit.converged:
                return fit
            rough = fit or rough
    if rough is None:
        raise CohortError("longitudinal", "the mixed model has no solution.", "Add people.")
    return rough


def _try_fit(model: Any, method: str) -> Any:
    """Fit by one method; None where a step of it ends in a singular matrix or in no error."""
    with warnings.catch_warnings():
        # A variance at its bound of 0 is a result; what did not converge is fitted again.
        warnings.simplefilter("ignore")
        try:
            fit = model.fit(reml=True, method=method)
        except np.linalg.LinAlgError:
            return None
        return fit if np.isfinite(fit.bse_fe.iloc[1]) else None


def yearly_change(
    table: pd.DataFrame, within_sd_years: float | None = None, time: str = "age_years"
) -> pd.DataFrame:
    """Compute each person's own change of the gap per year.

    Parameters
    ----------
    table, time
        As in `repeated_people`.
    within_sd_years : float, optional
        Within-subject standard deviation of the gap, from scans that lie close in time.

    Returns
    -------
    pandas.DataFrame
        One row a person with two times or more: `subject_id`, `n_scans`, `years` between the first
        and last scan, `gap_change_per_year` (least-squares slope); with `within_sd_years` also
        `smallest_detectable_per_year`, 1.96 · SD / √Σ(time − mean time)², which for two scans is
        1.96 · √2 · SD / years, and whether the change `exceeds` it.

    Raises
    ------
    CohortError
        As `repeated_people`.
    """
    rows: list[dict[str, Any]] = []
    for subject, part in repeated_people(table, time).groupby("subject_id", sort=True):
        years = part[time].to_numpy(np.float64)
        centred = years - years.mean()
        scatter = float(centred @ centred)
        slope = float(centred @ part[GAP].to_numpy(np.float64)) / scatter
        row = {"subject_id": subject, "n_scans": len(part), "years": float(np.ptp(years))}
        row["gap_change_per_year"] = slope
        if within_sd_years is not None:
            limit = 1.96 * within_sd_years / np.sqrt(scatter)
            row |= {"smallest_detectable_per_year": limit, "exceeds": abs(slope) > limit}
        rows.append(row)
    return pd.DataFrame(rows)
