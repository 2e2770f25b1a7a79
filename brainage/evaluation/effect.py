"""The weight of one term of a linear model, with errors that hold where the scatter is uneven."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brainage.errors import CohortError
from brainage.types import BoolArray, DoubleArray

_ALONE = 1e-9


@dataclass(frozen=True)
class Effect:
    """Weight of a term with its 95 % interval and two-sided p, and the residuals' deviation."""

    weight: float
    ci_low: float
    ci_high: float
    p: float
    residual_sd: float


def fit_effect(
    values: DoubleArray, term: DoubleArray | BoolArray, base: DoubleArray, what: str, where: str
) -> Effect:
    """Fit values ~ term + base by ordinary least squares, with HC3 errors.

    People with a term of their own, such as the one person of a site, fit it whatever they are and
    tell nothing of the others: they have no part in the error (MacKinnon & White 1985,
    doi:10.1016/0304-4076(85)90158-7, divide by 1 - leverage, which is 0 for them).

    Parameters
    ----------
    values, term : numpy.ndarray (N,)
        What is explained, and the term whose weight is wanted.
    base : numpy.ndarray of float64 (N, terms)
        The other terms, a column of ones among them, in numbers not far from 1.
    what, where : str
        Named in the error.

    Raises
    ------
    CohortError
        If a single person decides the weight: errors of rounding would be its interval.
    """
    level, scale = standardise(term)
    design = np.column_stack([level, base])
    inverse = np.linalg.pinv(design)
    weights = inverse @ values
    left = values - design @ weights
    leverage = np.einsum("nt,tn->n", design, inverse)
    alone = leverage > 1 - _ALONE
    deciding = np.abs(inverse[0])
    if (deciding[alone] > _ALONE * deciding.max()).any():
        problem = f"{what}: its effect rests on one person alone, so that its error is not known."
        raise CohortError(where, problem, "More people with that value, sex and site are needed.")
    parts = inverse[0] * left / np.where(alone, np.inf, 1 - leverage)
    error = float(np.sqrt(parts @ parts)) / scale
    weight, half = float(weights[0]) / scale, float(stats.norm.ppf(0.975)) * error
    return Effect(
        weight=weight,
        ci_low=weight - half,
        ci_high=weight + half,
        p=2 * float(stats.norm.sf(abs(weight) / error)) if error else 0.0,
        residual_sd=float(np.sqrt(left @ left / (len(values) - design.shape[1]))),
    )


def standardise(term: DoubleArray | BoolArray) -> tuple[DoubleArray, float]:
    """Return a term (N,) with mean 0 and deviation 1, and its deviation.

    So that dates in seconds or voltages in microvolts weigh no more than age does when it is asked
    which terms repeat others.
    """
    numbers = np.asarray(term, np.float64)
    scale = float(numbers.std()) or 1.0
    centred: DoubleArray = (numbers - numbers.mean()) / scale
    return centred, scale
