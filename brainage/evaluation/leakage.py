"""Check for leakage: a model of permuted ages must predict no better than chance."""

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
    """Permute ages between people; a person's scans get one age (N,).

    A person with several scans has the mean of their ages passed on.
    """
    codes = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)[1]
    means = np.bincount(codes, weights=age_years) / np.bincount(codes)
    permuted: DoubleArray = np.random.default_rng(seed).permutation(means)[codes]
    return permuted


def permutations_needed(scans: int, most: int) -> int:
    """Count the permutations whose mean r has 3 standard errors, 1/√(n·permutations), in `LIMIT`.

    At most `most`: of a small cohort the mean stays less certain, and the limit is wider.
    """
    return int(min(most, max(1, np.ceil((3 / LIMIT) ** 2 / scans))))


def permuted_age_check(
    age_years: DoubleArray,
    subject_ids: Sequence[str],
    splits: Sequence[S],
    fit_predict: Callable[[S, DoubleArray], DoubleArray],
    seed: int = 0,
    most_permutations: int = 20,
) -> dict[str, float | int | bool]:
    """Correlate out-of-fold predictions with ages that were permuted before training: the mean.

    Both are centred within each fold first: a constant predictor's folds alone correlate
    negatively, since a fold with a high mean leaves a low mean to train on. One permutation of a
    small cohort gives an |r| above 0.15 by chance alone, so as many are averaged as it takes for
    three standard errors to fit into 0.15.

    Parameters
    ----------
    splits : sequence of Split
        The folds of the protocol.
    fit_predict : callable
        From a split and all scans' permuted ages to predictions for the split's test scans.
    most_permutations : int
        Bound on their number.

    Returns
    -------
    dict
        `r` (mean over permutations), `largest` (of their |r|), `n`, `permutations`, `limit` (0.15,
        or 3 standard errors where the bound leaves more) and `passed`.
    """
    n = sum(len(split.test) for split in splits)
    count = permutations_needed(n, most_permutations)
    values = []
    for number in range(count):
        ages = permute_ages(age_years, subject_ids, seed + number)
        values.append(_correlate(ages, splits, fit_predict))
    r = float(np.mean(values))
    limit = max(LIMIT, 3 / np.sqrt(n * count))
    return {
        "r": r,
        "largest": float(np.abs(values).max()),
        "n": n,
        "permutations": count,
        "limit": float(limit),
        "passed": bool(abs(r) < limit),
    }


def _correlate(
    ages: DoubleArray, splits: Sequence[S], fit_predict: Callable[[S, DoubleArray], DoubleArray]
) -> float:
    predicted, true = [], []
    for split in splits:
        result = fit_predict(split, ages)
        predicted.append(result - result.mean())
        true.append(ages[split.test] - ages[split.test].mean())
    a, b = np.concatenate(predicted), np.concatenate(true)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-9 else 0.0
