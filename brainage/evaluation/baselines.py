"""What a trained network has to beat: the constant predictor, and a linear model of the voxels.

The linear baseline is PCA followed by ridge regression on the very arrays that the network sees,
the classical workflow of Cole et al. 2017 (doi:10.1016/j.neuroimage.2017.07.059) in its linear
form. Its penalty is chosen by cross-validation inside the training set alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.metrics import Number, age_metrics, constant_predictor
from brainage.types import BoolArray, DoubleArray, FloatArray, HalfArray

MAX_COMPONENTS = 500
MAX_FEATURES = 40_000
PENALTIES = tuple(float(penalty) for penalty in np.logspace(0, 7, 15))
INNER_FOLDS = 5


@dataclass(frozen=True)
class LinearBaseline:
    """A fitted linear model of prepared voxels.

    Attributes
    ----------
    shape : tuple of int (3,)
        Voxels (I, J, K) of the arrays that it was fitted on.
    pool : int
        Edge of the cubes of voxels that are averaged into one feature.
    mask : numpy.ndarray of bool (F,)
        Features that vary between training scans.
    pipeline : sklearn.pipeline.Pipeline
        PCA, then ridge regression.
    """

    shape: tuple[int, ...]
    pool: int
    mask: BoolArray
    pipeline: Any

    def predict(self, arrays: Sequence[HalfArray] | HalfArray) -> DoubleArray:
        """Predict ages.

        Parameters
        ----------
        arrays : numpy.ndarray of float16 (N, I, J, K), or a sequence of N (I, J, K)
            Prepared scans.

        Returns
        -------
        numpy.ndarray of float64 (N,)
            Predicted ages in years.

        Raises
        ------
        ShapeError
            If a scan has another grid than the training scans.
        """
        if len(arrays) == 0:
            return np.empty(0)
        features = _features(arrays, self.shape, self.pool, self.mask)
        return np.asarray(self.pipeline.predict(features), dtype=np.float64)


def fit_linear_baseline(
    train_arrays: Sequence[HalfArray] | HalfArray,
    train_ages: ArrayLike,
    *,
    subject_ids: Sequence[str] | None = None,
    seed: int = 0,
) -> LinearBaseline:
    """Fit PCA and ridge regression to the training scans' voxels.

    Fine grids are averaged over cubes of 2, 3, … voxels until at most 40,000 features remain
    (about 6 to 8 mm): measured on OASIS-1 that is more accurate than the fine voxels, and it bounds
    the memory. Features that are the same in every scan are left out.

    Parameters
    ----------
    train_arrays : numpy.ndarray of float16 (N, I, J, K), or a sequence of N (I, J, K)
        Prepared training scans.
    train_ages : array_like (N,)
        Their ages in years.
    subject_ids : sequence of str (N,), optional
        Whose scan it is: keeps a person's scans together in the inner cross-validation, which
        would otherwise choose too small a penalty.
    seed : int
        Seed of the PCA and of the inner folds.

    Returns
    -------
    LinearBaseline
        With ``predict(arrays) -> (N,)``.

    Raises
    ------
    ShapeError
        If ages, subjects and scans differ in number, or scans in grid.
    CohortError
        If there are fewer than two subjects, or no voxel varies.
    """
    ages = np.asarray(train_ages, dtype=np.float64)
    subjects = np.arange(len(ages)) if subject_ids is None else np.asarray(subject_ids, dtype=str)
    if ages.shape != (len(train_arrays),) or subjects.shape != ages.shape:
        raise ShapeError(
            "linear baseline",
            f"expected ages and subjects ({len(train_arrays)},), got {ages.shape} and "
            f"{subjects.shape}.",
        )
    people = np.unique(subjects).size
    if people < 2:
        raise CohortError("linear baseline", f"needs at least 2 training subjects, got {people}.")
    shape = tuple(train_arrays[0].shape)
    pool = _pool_edge(shape)
    mask = _varying(train_arrays, shape, pool)
    if not mask.any():
        raise CohortError("linear baseline", "no voxel differs between the training scans.")
    features = _features(train_arrays, shape, pool, mask)
    pipeline = _pipeline(min(MAX_COMPONENTS, len(ages) - 1, int(mask.sum())), subjects, seed)
    return LinearBaseline(shape, pool, mask, pipeline.fit(features, ages))


def baseline_predictions(
    train_arrays: Sequence[HalfArray] | HalfArray,
    train_ages: ArrayLike,
    test_arrays: Sequence[HalfArray] | HalfArray,
    *,
    train_subject_ids: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, DoubleArray]:
    """Predict the test scans' ages with both baselines.

    Parameters
    ----------
    train_arrays, test_arrays : numpy.ndarray of float16 (N, I, J, K), or sequences of (I, J, K)
        Prepared scans; no subject may be in both.
    train_ages : array_like (N,)
        Ages of the training scans, in years.
    train_subject_ids : sequence of str (N,), optional
        As `subject_ids` of `fit_linear_baseline`.
    seed : int
        Seed of the linear model.

    Returns
    -------
    dict
        `constant` and `linear`: numpy.ndarray of float64 (N,), years.

    Raises
    ------
    ShapeError, CohortError
        As `fit_linear_baseline`.
    """
    linear = fit_linear_baseline(train_arrays, train_ages, subject_ids=train_subject_ids, seed=seed)
    return {
        "constant": constant_predictor(train_ages, len(test_arrays)),
        "linear": linear.predict(test_arrays),
    }


def baseline_metrics(
    age_years: ArrayLike,
    predictions: dict[str, DoubleArray],
    *,
    subject_ids: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Number]]:
    """Score the baselines' predictions: the `baselines` entry of metrics.json.

    Parameters
    ----------
    age_years : array_like (N,)
        Ages of the test scans, in years.
    predictions : dict of numpy.ndarray (N,)
        Result of `baseline_predictions`, or of several folds joined.
    subject_ids : sequence of str (N,), optional
        Whose test scan it is.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        For each baseline the result of `age_metrics`.

    Raises
    ------
    ShapeError, CohortError
        As `age_metrics`.
    """
    return {
        name: age_metrics(age_years, predicted, subject_ids=subject_ids, seed=seed)
        for name, predicted in predictions.items()
    }


def _pipeline(components: int, subjects: Any, seed: int) -> Any:
    # scikit-learn takes a second to import; the rest of the package does not need it.
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline

    folds = GroupKFold(min(INNER_FOLDS, np.unique(subjects).size), shuffle=True, random_state=seed)
    splits = list(folds.split(subjects, groups=subjects))
    solver = "full" if components < 20 else "randomized"
    return make_pipeline(
        PCA(components, svd_solver=solver, random_state=seed),
        RidgeCV(PENALTIES, cv=splits, scoring="neg_mean_absolute_error"),
    )


def _pool_edge(shape: tuple[int, ...]) -> int:
    edge = 1
    while prod(ceil(side / edge) for side in shape) > MAX_FEATURES:
        edge += 1
    return edge


def _pooled(array: HalfArray, shape: tuple[int, ...], edge: int) -> FloatArray:
    """Average cubes of `edge` voxels: (I, J, K) to (F,)."""
    if array.shape != shape:
        raise ShapeError("linear baseline", f"expected a scan of shape {shape}, got {array.shape}.")
    voxels = np.asarray(array, dtype=np.float32)
    if edge == 1:
        return voxels.ravel()
    voxels = np.pad(voxels, [(0, -side % edge) for side in shape])
    i, j, k = (side // edge for side in voxels.shape)
    pooled: FloatArray = voxels.reshape(i, edge, j, edge, k, edge).mean(axis=(1, 3, 5))
    return pooled.ravel()


def _varying(
    arrays: Sequence[HalfArray] | HalfArray, shape: tuple[int, ...], edge: int
) -> BoolArray:
    first = _pooled(arrays[0], shape, edge)
    varying = np.zeros(first.size, dtype=bool)
    for index in range(1, len(arrays)):
        varying |= _pooled(arrays[index], shape, edge) != first
    return varying


def _features(
    arrays: Sequence[HalfArray] | HalfArray, shape: tuple[int, ...], edge: int, mask: BoolArray
) -> FloatArray:
    features = np.empty((len(arrays), int(mask.sum())), dtype=np.float32)
    for index in range(len(arrays)):
        features[index] = _pooled(arrays[index], shape, edge)[mask]
    return features
