"""Baseline models of the same arrays that need minutes of one core: what a network must beat.

`constant` is the training ages' median. `linear` is PCA and ridge regression of the prepared
voxels, the classical workflow of Cole et al. 2017 (doi:10.1016/j.neuroimage.2017.07.059) in its
linear form; `gaussian_process` is its regression with a linear and an RBF kernel; `svr` is
support vector regression of the same components (Franke et al. 2010,
doi:10.1016/j.neuroimage.2010.01.005, used its relative, the RVM); `volumes` is ridge regression of
grey matter, white matter and fluid volumes. All choices are made by cross-validation inside the
training set alone.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brainage.errors import CohortError, ConfigError, ShapeError
from brainage.evaluation.features import Scans, TissuePriors, VoxelGrid, fit_grid, tissue_volumes
from brainage.evaluation.metrics import Number, age_metrics, constant_predictor
from brainage.types import BASELINES, DEFAULT_BASELINES, DoubleArray, FloatArray

MAX_COMPONENTS = 500
MAX_FEATURES = 40_000
PENALTIES = tuple(float(penalty) for penalty in np.logspace(0, 7, 15))
INNER_FOLDS = 5

# From subjects of the training scans, number of components, of features, and seed to an unfitted
# pipeline.
_BuildPipeline = Callable[[Any, int, int, int], Any]


@dataclass(frozen=True)
class VoxelBaseline:
    """A fitted model of prepared voxels.

    Attributes
    ----------
    grid : VoxelGrid
        How scans become features.
    pipeline : sklearn.pipeline.Pipeline
        PCA, then a regression.
    """

    grid: VoxelGrid
    pipeline: Any

    def predict(self, arrays: Scans) -> DoubleArray:
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
        features = self.grid.features(arrays)
        return np.asarray(self.pipeline.predict(features), dtype=np.float64)


def fit_linear_baseline(
    train_arrays: Scans,
    train_ages: ArrayLike,
    *,
    subject_ids: Sequence[str] | None = None,
    seed: int = 0,
) -> VoxelBaseline:
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
    VoxelBaseline
        With ``predict(arrays) -> (N,)``.

    Raises
    ------
    ShapeError
        If ages, subjects and scans differ in number, or scans in grid.
    CohortError
        If there are fewer than two subjects, or no voxel varies.
    """
    ages, subjects = _check_training(train_arrays, train_ages, subject_ids)
    return _fit_voxels(train_arrays, ages, subjects, seed, _ridge)


def baseline_predictions(
    train_arrays: Scans,
    train_ages: ArrayLike,
    test_arrays: Scans,
    *,
    names: Sequence[str] = DEFAULT_BASELINES,
    train_subject_ids: Sequence[str] | None = None,
    priors: TissuePriors | None = None,
    seed: int = 0,
) -> dict[str, DoubleArray]:
    """Predict the test scans' ages with the chosen baselines.

    Parameters
    ----------
    train_arrays, test_arrays : numpy.ndarray of float16 (N, I, J, K), or sequences of (I, J, K)
        Prepared scans; no subject may be in both.
    train_ages : array_like (N,)
        Ages of the training scans, in years.
    names : sequence of str
        Of `BASELINES`.
    train_subject_ids : sequence of str (N,), optional
        As `subject_ids` of `fit_linear_baseline`.
    priors : TissuePriors, optional
        The template's tissue maps, needed by `volumes`.
    seed : int
        Seed of the models.

    Returns
    -------
    dict
        For each name numpy.ndarray of float64 (N,), years.

    Raises
    ------
    ConfigError
        If a name is unknown, or `volumes` lacks its priors.
    ShapeError, CohortError
        As `fit_linear_baseline`.
    """
    check_names(names)
    ages, subjects = _check_training(train_arrays, train_ages, train_subject_ids)
    predictions = {}
    for name in names:
        if name == "constant":
            predictions[name] = constant_predictor(ages, len(test_arrays))
        elif name == "volumes":
            if priors is None:
                raise ConfigError("--baselines", "volumes needs the template's tissue maps.")
            model = _volume_ridge(subjects, seed).fit(tissue_volumes(train_arrays, priors), ages)
            predictions[name] = _predict_volumes(model, test_arrays, priors)
        else:
            fitted = _fit_voxels(train_arrays, ages, subjects, seed, _PIPELINES[name])
            predictions[name] = fitted.predict(test_arrays)
    return predictions


def check_names(names: Sequence[str]) -> None:
    """Refuse unknown baselines.

    Raises
    ------
    ConfigError
        Naming the unknown ones and all that are known.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        known = ", ".join(BASELINES)
        raise ConfigError("--baselines", f"unknown {', '.join(unknown)}.", f"Known: {known}, all.")


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


def _check_training(
    train_arrays: Scans, train_ages: ArrayLike, subject_ids: Sequence[str] | None
) -> tuple[DoubleArray, Any]:
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
    return ages, subjects


def _fit_voxels(
    arrays: Scans, ages: DoubleArray, subjects: Any, seed: int, build: _BuildPipeline
) -> VoxelBaseline:
    grid = fit_grid(arrays, MAX_FEATURES)
    if not grid.mask.any():
        raise CohortError("linear baseline", "no voxel differs between the training scans.")
    features: FloatArray = grid.features(arrays)
    components = min(MAX_COMPONENTS, len(ages) - 1, int(grid.mask.sum()))
    pipeline = build(subjects, components, features.shape[1], seed)
    with warnings.catch_warnings():
        # A kernel that the data do not need ends at the bound of its size; that is no failure.
        warnings.filterwarnings("ignore", message=".*close to the specified.*bound")
        return VoxelBaseline(grid, pipeline.fit(features, ages))


# scikit-learn takes a second to import; the rest of the package does not need it.


def _ridge(subjects: Any, components: int, features: int, seed: int) -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline

    search = RidgeCV(PENALTIES, cv=_inner_folds(subjects, seed), scoring=_SCORING)
    return make_pipeline(_components(components, seed), search)


def _gaussian_process(subjects: Any, components: int, features: int, seed: int) -> Any:
    """Fit kernel and noise by the marginal likelihood, so that no inner folds are needed."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
    from sklearn.pipeline import make_pipeline

    linear = ConstantKernel(1.0, (1e-3, 1e3)) * DotProduct(0.1, (1e-3, 1e1))
    nonlinear = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(1.0, (1e-1, 1e2))
    kernel = linear + nonlinear + WhiteKernel(0.1, (1e-4, 1e1))
    regression = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    return make_pipeline(_components(components, seed), _scaler(features), regression)


def _svr(subjects: Any, components: int, features: int, seed: int) -> Any:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVR

    # Gamma and C as multiples of the data's scale: features of length about 1, ages in decades.
    grid = {"C": [30.0, 300.0, 3000.0], "gamma": [0.03, 0.3], "epsilon": [1.0]}
    search = GridSearchCV(SVR(), grid, cv=_inner_folds(subjects, seed), scoring=_SCORING)
    return make_pipeline(_components(components, seed), _scaler(features), search)


def _volume_ridge(subjects: Any, seed: int) -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    search = RidgeCV(
        tuple(np.logspace(-3, 3, 13)), cv=_inner_folds(subjects, seed), scoring=_SCORING
    )
    # Squares, since tissue is lost faster late in life.
    return make_pipeline(
        StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), search
    )


def _predict_volumes(model: Any, arrays: Scans, priors: TissuePriors) -> DoubleArray:
    if len(arrays) == 0:
        return np.empty(0)
    return np.asarray(model.predict(tissue_volumes(arrays, priors)), dtype=np.float64)


def _scaler(features: int) -> Any:
    """Divide by the root of the features' number: kernels of about 1, whatever the grid."""
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(_divide, kw_args={"divisor": np.sqrt(features)})


def _divide(values: FloatArray, divisor: float) -> FloatArray:
    return values / np.float32(divisor)


def _components(components: int, seed: int) -> Any:
    from sklearn.decomposition import PCA

    solver = "full" if components < 20 else "randomized"
    return PCA(components, svd_solver=solver, random_state=seed)


def _inner_folds(subjects: Any, seed: int) -> list[Any]:
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(min(INNER_FOLDS, np.unique(subjects).size), shuffle=True, random_state=seed)
    return list(folds.split(subjects, groups=subjects))


_SCORING = "neg_mean_absolute_error"
_PIPELINES: dict[str, _BuildPipeline] = {
    "linear": _ridge,
    "gaussian_process": _gaussian_process,
    "svr": _svr,
}
