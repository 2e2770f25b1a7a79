"""A check that must find nothing: learn permuted ages, and predict no better than chance."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from brainage.types import DoubleArray

LIMIT = 0.15


class Parts(Protocol):
    """What is needed of a split: positions of the test scans."""

    @property
    def test(self) -> NDArray[np.int64]:
        """Positions in the cohort."""


S = TypeVar("S", bound=Parts)


def permute_ages(age_years: DoubleArray, subject_ids: Sequence[str], seed: int = 0) -> DoubleArray:
    """Deal the ages of people to other people; a person's scans get one age (N,).

    A person with several scans has the mean of their ages dealt on.
    """
    codes = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)[1]
    means = np.bincount(codes, weights=age_years) / np.bincount(codes)
    dealt: DoubleArray = np.random.default_rng(seed).permutation(means)[codes]
    return dealt


def permuted_age_check(
    age_years: DoubleArray,
    subject_ids: Sequence[str],
    splits: Sequence[S],
    fit_predict: Callable[[S, DoubleArray], DoubleArray],
    seed: int = 0,
) -> dict[str, float | int | bool]:
    """Correlation of out-of-fold predictions with ages that were permuted before training.

    Both are centred within each fold first: a constant predictor's folds alone correlate
    negatively, since a fold with a high mean leaves a low mean to train on.

    Parameters
    ----------
    splits : sequence of Split
        The folds of the protocol.
    fit_predict : callable
        From a split and all scans' permuted ages to predictions for the split's test scans.

    Returns
    -------
    dict
        `r`, `n`, `limit` (0.15, or 3 standard errors 1/√n of a small cohort) and `passed`.
    """
    ages = permute_ages(age_years, subject_ids, seed)
    predicted, true = [], []
    for split in splits:
        result = fit_predict(split, ages)
        predicted.append(result - result.mean())
        true.append(ages[split.test] - ages[split.test].mean())
    a, b = np.concatenate(predicted), np.concatenate(true)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    r = float(a @ b) / scale if scale > 1e-9 else 0.0
    limit = max(LIMIT, 3 / np.sqrt(len(a)))
    return {"r": r, "n": len(a), "limit": float(limit), "passed": bool(abs(r) < limit)}
