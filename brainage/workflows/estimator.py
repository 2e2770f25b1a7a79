"""A scikit-learn estimator of age: fit on scans and ages, predict ages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.extensions import ExtensionArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from brainage.cohorts.cells import OLDEST_YEARS
from brainage.cohorts.cohort import Cohort
from brainage.cohorts.columns import STANDARD_COLUMNS
from brainage.cohorts.splits import hold_out_validation
from brainage.config import Config, with_changes
from brainage.errors import CohortError, ConfigError, ShapeError
from brainage.evaluation.bounds import DEFAULT_LEVEL
from brainage.inference.model import Model
from brainage.model.bundle import Bundle, describe
from brainage.training.options import TrainOptions
from brainage.training.run import PreparedCohort, TrainedRun, train_run
from brainage.types import DoubleArray, Json
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.results import describe_training
from brainage.workflows.settings import choose_config
from brainage.workflows.train import calibrate_on

_LEAST_SIDE = 8


class BrainAgeRegressor(RegressorMixin, BaseEstimator):
    """Predict age from T1 scans by a network of locally trained blocks, as scikit-learn does.

    With the same settings, seed and folds it predicts what ``brainage train --folds`` predicts.

    Parameters
    ----------
    method : str, optional
        Learning method: ``lfnn_l``, ``bp``, …; absent: that of `config` and `settings`.
    blocks : int, optional
        Number of blocks that learn apart; absent: the preset's.
    config : str, path or Config
        Preset, YAML file or configuration that the other parameters change.
    settings : mapping, optional
        Further changes by dotted key, such as ``{"training.epochs": 5}``; not of what a parameter
        says otherwise.
    random_state : int, RandomState or None
        Seed of weights, order and augmentation; None: that of `config`.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    cache : path, optional
        Folder of prepared scans; absent: the user's cache folder.

    Attributes
    ----------
    model_ : Model
        The trained model, with `predict` for files and DICOM folders.
    config_ : Config
        Resolved settings.
    history_ : pandas.DataFrame
        Losses and validation score of each epoch.
    n_features_in_ : int
        Second axis of arrays that it was fitted on; 1 where it was fitted on paths.

    Notes
    -----
    `X` is a sequence of paths, which are prepared as on the command line, or prepared arrays
    (N, I, J, K). Of a table (N, F), the F values of a row are laid row by row into the smallest
    cube that holds them, of at least 8 voxels a side, and the rest is 0: of use to scikit-learn's
    own checks, hardly to anyone else.

    A part of the subjects, ``split.validation_fraction`` of the settings, is held out of `fit`
    to choose the epoch and to make intervals.

    Examples
    --------
    >>> import tempfile
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> table = brainage.read_cohort(write_phantom_cohort(folder.name, 6, seed=0)).cohort.table
    >>> regressor = brainage.BrainAgeRegressor(
    ...     blocks=2, config="phantom", settings={"training.epochs": 1}
    ... )
    >>> regressor = regressor.fit(table["path"], table["age_years"], groups=table["subject_id"])
    >>> regressor.predict(table["path"][:3]).shape
    (3,)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        method: str | None = None,
        blocks: int | None = None,
        config: Config | str | Path = "cnn3d_light",
        settings: Mapping[str, Any] | None = None,
        random_state: Any = None,
        device: str = "auto",
        cache: str | Path | None = None,
    ) -> None:
        self.method = method
        self.blocks = blocks
        self.config = config
        self.settings = settings
        self.random_state = random_state
        self.device = device
        self.cache = cache

    # X and y: the names that scikit-learn calls by.
    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> "BrainAgeRegressor":
        """Train on scans and their ages.

        Parameters
        ----------
        X : sequence of paths, or array_like (N, I, J, K) or (N, F)
            Scans.
        y : array_like (N,)
            Ages in years.
        groups : array_like (N,), optional
            Subject of each scan: nobody both trains and validates. Absent: each scan is another
            subject's.

        Returns
        -------
        BrainAgeRegressor
            Itself.

        Raises
        ------
        CohortError
            If a scan cannot be used, an age or a subject is none, or there are fewer than 2
            subjects.
        ValueError
            If arrays are not finite numbers, or of other lengths.
        """
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        config = self._build_config()
        if _is_paths(X):
            paths = [str(path) for path in X]
            check_consistent_length(paths, y, groups)
            cohort = _build_cohort(_check_ages(y), groups, paths)
            self.n_features_in_ = 1
            cache = None if self.cache is None else Path(self.cache)
            options = CohortOptions(cohort.source, cache=cache, given=cohort)
            copies = config.augmentation.stranger_copies
            prepared, _ = prepare_options(options, config.preprocessing, copies)
        else:
            arrays, ages = self._check_arrays(X, y)
            check_consistent_length(arrays, groups)
            config = _on_grid_of(arrays, ages, config)
            prepared = PreparedCohort(_build_cohort(ages, groups), arrays)
        split = hold_out_validation(prepared.cohort, config.split)
        run = train_run(prepared, split, config, options=TrainOptions(device=self.device))
        facts = describe([run.model], run.config) | describe_training(prepared, split)
        self.model_, self.config_ = _build_model(run, facts), run.config
        self.history_ = pd.DataFrame([record.row() for record in run.history])
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the ages (N,) of scans, in years; each on its own, whatever stands beside it.

        Raises
        ------
        CohortError
            If a scan cannot be used, or paths are given to a regressor fitted on arrays.
        """
        return self._predict(X)[0]

    def predict_interval(self, X: Any, level: float = DEFAULT_LEVEL) -> NDArray[np.float64]:
        """Return prediction intervals (N, 2) of scans, low and high in years.

        Made of the errors on the few subjects that `fit` held out; NaN where they are too few for
        the level. `brainage.ConformalInterval` makes better ones of out-of-fold predictions.
        """
        predicted, spread = self._predict(X)
        calibration = self.model_.bundle.calibration
        assert calibration is not None
        return calibration.predict(predicted, spread, level)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A network of a few epochs is no good regressor of ten numbers.
        tags.regressor_tags.poor_score = True
        return tags

    def _build_config(self) -> Config:
        config = choose_config(self.config, self.settings, draws_test=False)
        seed: int | None = None
        if self.random_state is not None:
            given = self.random_state
            is_number = isinstance(given, int | np.integer)
            seed = int(given) if is_number else check_random_state(given).randint(2**31 - 1)
        changes = {"learning.method": self.method, "learning.blocks": self.blocks, "seed": seed}
        for key, value in changes.items():
            other = (self.settings or {}).get(key, value)
            if value is not None and other != value:
                problem = f"{key} is {other!r} in settings, {value!r} as a parameter."
                raise ConfigError(type(self).__name__, problem, "Give it once.")
        return with_changes(config, changes, type(self).__name__)

    def _check_arrays(
        self, values: Any, ages: ArrayLike | None = None
    ) -> tuple[NDArray[Any], DoubleArray]:
        """Volumes (N, I, J, K) and ages (N,); without ages, of the kind that was fitted."""
        if np.ma.is_masked(values):  # scikit-learn would take what lies under the mask
            raise ShapeError("X", "voxels are masked.", "Fill them: X.filled(0).")
        are_scans = np.asarray(values).ndim == 4
        # What is neither becomes the first: half precision would round away a scan's detail.
        options = {"allow_nd": are_scans, "dtype": [np.float32, np.float16], "order": "C"}
        if ages is None:
            checked = validate_data(self, values, reset=False, **options)
            return _as_volumes(checked), np.empty(0)
        checked, years = validate_data(
            self, values, ages, y_numeric=True, ensure_min_samples=2, **options
        )
        # scikit-learn's checks regress any number on tables
        years = _check_ages(years) if are_scans else np.asarray(years, dtype=np.float64)
        return _as_volumes(checked), years

    def _predict(self, values: Any) -> tuple[DoubleArray, DoubleArray]:
        check_is_fitted(self, "model_")
        if _is_paths(values):
            if self.n_features_in_ != 1:
                problem = "expected arrays, as it was fitted on, got paths."
                remedy = "If brainage prepared those arrays, ask model_.predict."
                raise CohortError("X", problem, remedy)
            cache = None if self.cache is None else Path(self.cache)
            table = self.model_.predict([str(path) for path in values], cache=cache)
            failed = table[table["verdict"] == "failed"]
            if len(failed):
                where, reason = failed[["scan_id", "reasons"]].iloc[0]
                raise CohortError(where, reason)
            return table["predicted_age_years"].to_numpy(), table["spread_years"].to_numpy()
        arrays, _ = self._check_arrays(values)
        if arrays.shape[1:] != self.config_.preprocessing.shape:
            fitted = self.config_.preprocessing.shape
            raise ShapeError("X", f"expected scans {fitted}, got {arrays.shape[1:]}.")
        # One by one: in a batch, rounding depends on the neighbours.
        result = self.model_.bundle.predict(arrays, batch_size=1)
        return result.predicted_age_years, result.spread_years


def _is_paths(values: Any) -> bool:
    """Whether scans are named; one path alone is told by the checks of arrays."""
    if isinstance(values, str | bytes | Path) or getattr(values, "ndim", 1) != 1:
        return False
    if not isinstance(values, Sequence | np.ndarray | pd.Series | pd.Index | ExtensionArray):
        return False
    if len(values) == 0:
        return False
    return all(isinstance(item, str | Path) for item in values)


def _check_ages(values: ArrayLike) -> DoubleArray:
    ages = np.asarray(values, dtype=np.float64)
    wrong = ~((ages >= 0) & (ages <= OLDEST_YEARS))
    if ages.ndim != 1:
        raise CohortError("ages", f"expected shape (N,), got {ages.shape}.", "Give one column.")
    if wrong.any():
        problem = f"expected ages (N,) of 0 to {OLDEST_YEARS:g} years, {int(wrong.sum())} are not."
        raise CohortError("ages", problem, "Leave out scans without a known age.")
    return ages


def _build_cohort(
    ages: DoubleArray, groups: ArrayLike | None, paths: Sequence[str] | None = None
) -> Cohort:
    names = [str(number) for number in range(len(ages))] if paths is None else list(paths)
    subjects = names
    if groups is not None:
        subjects = [str(group).strip() for group in np.asarray(groups)]
        absent = pd.DataFrame(np.asarray(groups, dtype=object)).isna().any(axis=1).to_numpy()
        if missing := int((absent | [not name for name in subjects]).sum()):
            problem = f"expected a subject for each scan, {missing} have none."
            raise CohortError("groups", problem, "Several scans would count as one person's.")
    table = pd.DataFrame(
        {
            "scan_id": names,
            "subject_id": subjects,
            "session_id": "",
            "age_years": ages,
            "sex": "",
            "site": "",
            "path": names,
        }
    )
    return Cohort(table[list(STANDARD_COLUMNS)], "scans")


def _as_volumes(values: NDArray[Any]) -> NDArray[Any]:
    """Arrays (N, I, J, K); rows of a table are laid into cubes."""
    if values.ndim == 4:
        return values
    count, features = values.shape
    side = max(_LEAST_SIDE, int(np.ceil(round(features ** (1 / 3), 6))))
    padded = np.zeros((count, side**3), dtype=values.dtype)
    padded[:, :features] = values
    return padded.reshape(count, side, side, side)


def _on_grid_of(arrays: NDArray[Any], ages: DoubleArray, config: Config) -> Config:
    changes: Json = {
        "preprocessing.shape": list(arrays.shape[1:]),
        "augmentation.stranger_copies": 0,  # they are made of files
    }
    if ages.min() < 0:  # no age; but scikit-learn's checks regress any number
        changes["target.low_years"] = float(ages.min() - config.target.margin_years)
    return with_changes(config, changes, "X")


def _build_model(run: TrainedRun, facts: Json) -> Model:
    calibration = calibrate_on(run.validation, run.config)
    complete = facts | {"calibration": calibration.to_json()}
    return Model(Bundle(run.model.eval(), run.config, complete, ""), "BrainAgeRegressor")
