"""Compare groups in their brain-age gap beyond age, sex and site."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from brainage.errors import CohortError
from brainage.evaluation.effect import fit_effect, standardise
from brainage.evaluation.measures import (
    check_columns,
    read_numbers,
    refuse_explained,
    residuals,
)
from brainage.types import BoolArray, DoubleArray

MIN_GROUP = 3


@dataclass(frozen=True)
class GroupEffect:
    """Difference of cases from controls in one measure, one row of the table.

    Attributes
    ----------
    measure : str
        Column that is compared.
    n_cases, n_controls : int
        People.
    difference : float
        Adjusted mean of cases minus controls, in the measure's unit, with its 95 % interval
        `ci_low`, `ci_high` and two-sided `p` from HC3 errors (MacKinnon & White 1985,
        doi:10.1016/0304-4076(85)90158-7).
    d : float
        The difference in residual standard deviations with its 95 % interval `d_ci_low`,
        `d_ci_high` (Hedges & Olkin 1985, large-sample variance).
    auc : float
        Probability that a case's age-adjusted value exceeds a control's, with its 95 % interval
        `auc_ci_low`, `auc_ci_high` (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
        Below ½ where cases have the lower values.
    covariates : str
        What the model adjusts for.
    """

    measure: str
    n_cases: int
    n_controls: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    d: float
    d_ci_low: float
    d_ci_high: float
    auc: float
    auc_ci_low: float
    auc_ci_high: float
    covariates: str


def group_effect(table: pd.DataFrame, measure: str, cases: BoolArray) -> GroupEffect:
    """Fit measure ~ group + age + age² + sex + site by ordinary least squares, HC3 errors.

    Covariates that do not vary, or repeat the group, are left out. For the AUC, age, sex and site
    are adjusted for by the line through the *controls* alone, so that the disease does not explain
    itself away.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, the measure, and where known `sex` and `site`; one row a person.
    measure : str
        Column of numbers.
    cases : numpy.ndarray of bool (N,)
        Who is a case; all others are controls.

    Raises
    ------
    CohortError
        If a column is missing or holds text, a group has fewer than 3 people with numbers, there
        are too few people for the terms, the measure does not vary beyond age, sex and site, or
        is the group itself beyond these, or one person alone decides the difference.
    """
    check_columns(table, ("age_years", measure), "groups")
    values = read_numbers(table[measure], "groups")
    known = np.isfinite(values) & table["age_years"].notna().to_numpy()
    values, group, rows = values[known], cases[known], table[known]
    n_cases, n_controls = int(group.sum()), int((~group).sum())
    if min(n_cases, n_controls) < MIN_GROUP:
        problem = f"{measure}: {n_cases} cases and {n_controls} controls with known values."
        raise CohortError("groups", problem, f"At least {MIN_GROUP} of each are needed.")
    design, names = adjusting_terms(rows, group)
    if len(values) <= design.shape[1] + 2:
        problem = f"{measure}: {len(values)} people cannot carry {design.shape[1] + 2} terms."
        raise CohortError("groups", problem)
    base = np.column_stack([np.ones(len(values)), design])
    refuse_explained(measure, values, residuals(base, values), "groups")
    adjusted = _adjust_by_controls(values, group, design)
    fit = fit_effect(values, group, base, measure, "groups")
    if fit.residual_sd <= 1e-9 * np.ptp(values):  # rounding errors would be the unit of d
        problem = f"{measure}: beyond age, sex and site it is the group itself."
        raise CohortError("groups", problem, "It says nothing of it.")
    d = fit.weight / fit.residual_sd
    # Large-sample variance of Hedges & Olkin 1985, chapter 5.
    error = float(np.sqrt(1 / n_cases + 1 / n_controls + d**2 / (2 * (n_cases + n_controls))))
    auc, auc_low, auc_high = auc_interval(adjusted[group], adjusted[~group])
    return GroupEffect(
        measure=measure,
        n_cases=n_cases,
        n_controls=n_controls,
        difference=fit.weight,
        ci_low=fit.ci_low,
        ci_high=fit.ci_high,
        p=fit.p,
        d=d,
        d_ci_low=d - 1.96 * error,
        d_ci_high=d + 1.96 * error,
        auc=auc,
        auc_ci_low=auc_low,
        auc_ci_high=auc_high,
        covariates=", ".join(names),
    )


def effect_table(effects: Sequence[GroupEffect]) -> pd.DataFrame:
    """Tabulate effects, one row a measure."""
    return pd.DataFrame([asdict(effect) for effect in effects])


def auc_interval(cases: ArrayLike, controls: ArrayLike) -> tuple[float, float, float]:
    """Compute the area under the ROC curve and its 95 % interval (Hanley & McNeil 1982)."""
    above, below = np.asarray(cases, np.float64), np.asarray(controls, np.float64)
    statistic = stats.mannwhitneyu(above, below).statistic
    auc = float(statistic) / (above.size * below.size)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (above.size - 1) * (q1 - auc**2) + (below.size - 1) * (q2 - auc**2)
    half = 1.96 * float(np.sqrt(max(variance, 0) / (above.size * below.size)))
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def adjusting_terms(
    rows: pd.DataFrame, effect: DoubleArray | BoolArray
) -> tuple[DoubleArray, list[str]]:
    """Return centred age and age², and indicators of sex and site, without what adds nothing.

    Parameters
    ----------
    rows : pandas.DataFrame (N rows)
        `age_years`, and where known `sex` and `site`.
    effect : numpy.ndarray (N,)
        Group or covariate that is looked at: what repeats it is left out.

    Returns
    -------
    numpy.ndarray of float64 (N, terms)
    list of str
        Names of what is adjusted for.
    """
    decades = (rows["age_years"].to_numpy(np.float64) - rows["age_years"].mean()) / 10
    blocks = {"age": decades[:, None], "age²": decades[:, None] ** 2}
    for name in ("sex", "site"):
        if name in rows:
            labels = rows[name].fillna("").astype(str)
            blocks[name] = pd.get_dummies(labels, drop_first=True, dtype=float).to_numpy()
    base = np.column_stack([np.ones(len(rows)), standardise(effect)[0]])
    design, names = np.empty((len(rows), 0)), []
    for name, block in blocks.items():
        for column in block.T:
            # A column that the effect and earlier ones determine would leave the fit undefined.
            wider = np.column_stack([base, design, column])
            if np.linalg.matrix_rank(wider) == wider.shape[1]:
                design = np.column_stack([design, column])
                names.append(name)
    return design, list(dict.fromkeys(names))


def _adjust_by_controls(values: DoubleArray, group: BoolArray, design: DoubleArray) -> DoubleArray:
    # Around the controls' means, what does not vary among them, such as their one sex, has no
    # weight; beside a column of ones it would share the intercept.
    moved = design - design[~group].mean(axis=0)
    mean = values[~group].mean()
    weights, _, rank, _ = np.linalg.lstsq(moved[~group], values[~group] - mean, rcond=None)
    if (~group).sum() <= rank + 1:
        problem = f"{int((~group).sum())} controls cannot carry {rank + 1} terms."
        raise CohortError("groups", problem, f"At least {rank + 2} are needed.")
    adjusted: DoubleArray = values - mean - moved @ weights
    return adjusted
