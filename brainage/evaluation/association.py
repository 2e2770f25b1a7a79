"""Relate the brain-age gap to a covariate beyond age, sex and site."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from brainage.errors import CohortError
from brainage.evaluation.effect import fit_effect
from brainage.evaluation.groups import adjusting_terms
from brainage.evaluation.measures import (
    check_columns,
    read_numbers,
    refuse_explained,
    residuals,
)
from brainage.types import DoubleArray

# Partial correlations beyond which two columns are one.
_ONE = 1 - 1e-8
_SPARE = 3  # people beyond the terms, the least that leaves something to estimate errors from


@dataclass(frozen=True)
class Association:
    """Slope of a measure on a covariate, one row of the table.

    Attributes
    ----------
    measure, covariate : str
        Columns.
    n : int
        People with both, and a known age.
    slope : float
        Change of the measure for one unit of the covariate, with its 95 % interval `ci_low`,
        `ci_high` and two-sided `p` from HC3 errors (MacKinnon & White 1985,
        doi:10.1016/0304-4076(85)90158-7).
    slope_per_sd : float
        Change of the measure for one standard deviation of the covariate.
    partial_r : float
        Correlation of measure and covariate after both are adjusted.
    adjusted_for : str
        What the model adjusts for.
    """

    measure: str
    covariate: str
    n: int
    slope: float
    ci_low: float
    ci_high: float
    p: float
    slope_per_sd: float
    partial_r: float
    adjusted_for: str


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Covariate (N,) and measure (N,) of N people, less what age, sex and site explain of them.

    Their least-squares line has the slope of the whole model (Frisch & Waugh 1933,
    doi:10.2307/1907330).
    """

    covariate: DoubleArray
    measure: DoubleArray


def associate(table: pd.DataFrame, measure: str, covariate: str) -> tuple[Association, Adjusted]:
    """Fit measure ~ covariate + age + age² + sex + site by ordinary least squares, HC3 errors.

    Terms that do not vary, or repeat the covariate, are left out.

    Parameters
    ----------
    table : pandas.DataFrame (N rows)
        `age_years`, the measure, the covariate, and where known `sex` and `site`; one row a
        person. Rows without one of the first three are left out.
    measure, covariate : str
        Columns of numbers.

    Raises
    ------
    CohortError
        If a column is missing or not numbers, there are too few people for the terms, either
        does not vary beyond age, sex and site, both are one beyond these, or one person alone
        decides the slope.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> age = np.linspace(60, 80, 30)
    >>> score = 30 - np.arange(30) % 5
    >>> gap = 60 - 2.0 * score + np.cos(age)
    >>> table = pd.DataFrame({"age_years": age, "MMSE": score, "gap": gap})
    >>> round(associate(table, "gap", "MMSE")[0].slope, 1)
    -2.1
    """
    check_columns(table, ("age_years", measure, covariate), "associate")
    values, levels = (read_numbers(table[name], "associate") for name in (measure, covariate))
    known = np.isfinite(values) & np.isfinite(levels) & table["age_years"].notna().to_numpy()
    values, levels, rows = values[known], levels[known], table[known]
    design, names = adjusting_terms(rows, levels) if len(rows) else (np.empty((0, 0)), [])
    terms = design.shape[1] + 2
    if len(rows) < terms + _SPARE:
        problem = f"{covariate}: {len(rows)} people with known values cannot carry {terms} terms."
        raise CohortError("associate", problem, f"At least {terms + _SPARE} are needed.")
    base = np.column_stack([np.ones(len(rows)), design])
    adjusted = Adjusted(residuals(base, levels), residuals(base, values))
    refuse_explained(covariate, levels, adjusted.covariate, "associate")
    refuse_explained(measure, values, adjusted.measure, "associate")
    r = float(np.corrcoef(adjusted.covariate, adjusted.measure)[0, 1])
    if abs(r) > _ONE:
        problem = f"beyond {', '.join(names)} it is {covariate} itself, and says nothing of it."
        remedy = "Of predicted ages, gaps and ages, each is made of the other two."
        raise CohortError(f"associate: {measure}", problem, remedy)
    fit = fit_effect(values, levels, base, f"{measure} on {covariate}", "associate")
    spread = float(levels.std(ddof=1))
    result = Association(
        measure=measure, covariate=covariate, n=len(rows), slope=fit.weight, ci_low=fit.ci_low,
        ci_high=fit.ci_high, p=fit.p, slope_per_sd=fit.weight * spread, partial_r=r,
        adjusted_for=", ".join(names),
    )  # fmt: skip
    return result, adjusted


def association_table(found: Sequence[Association]) -> pd.DataFrame:
    """Tabulate associations, one row each; `p_holm` is corrected for their number (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    table = pd.DataFrame([asdict(one) for one in found])
    table["p_holm"] = multipletests(table["p"], method="holm")[1]
    return table
