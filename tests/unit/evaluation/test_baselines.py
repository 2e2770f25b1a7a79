"""The linear baseline on small made-up brains and on real scans."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.baselines import (
    MAX_FEATURES,
    baseline_metrics,
    baseline_predictions,
    fit_linear_baseline,
)

SHAPE = (6, 7, 5)


def brains(ages: np.ndarray, seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise around zero, with some voxels that fade with age and a border that never varies."""
    random = np.random.default_rng(seed)
    arrays = random.normal(0, 1, (len(ages), *shape))
    arrays[:, 1:4, 2:5, 2] -= 0.06 * ages[:, None, None]
    arrays[:, 0] = 0.0
    return arrays.astype(np.float16)


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    train, test = random.uniform(20, 90, 60), random.uniform(20, 90, 30)
    return {
        "train_arrays": brains(train, 1),
        "train_ages": train,
        "test_arrays": brains(test, 2),
        "test_ages": test,
    }


def test_linear_beats_constant_by_half_where_voxels_follow_age(data):
    ages = data.pop("test_ages")
    metrics = baseline_metrics(ages, baseline_predictions(**data), seed=0)
    assert metrics["linear"]["mae_years"] < 0.5 * metrics["constant"]["mae_years"]
    assert set(metrics) == {"constant", "linear"}
    assert metrics["constant"]["mae_ci_low"] < metrics["constant"]["mae_years"]


def test_voxels_that_never_vary_are_left_out(data):
    baseline = fit_linear_baseline(data["train_arrays"], data["train_ages"])
    assert baseline.grid.mask.sum() == 5 * 7 * 5


def test_same_seed_gives_the_same_prediction(data):
    fits = [fit_linear_baseline(data["train_arrays"], data["train_ages"], seed=3) for _ in "ab"]
    first, again = (fit.predict(data["test_arrays"]) for fit in fits)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (30,)


def test_ages_of_the_test_scans_are_not_asked_for(data):
    # Fitting on shuffled ages must destroy the prediction: nothing else tells the age.
    shuffled = np.random.default_rng(0).permutation(data["train_ages"])
    predicted = fit_linear_baseline(data["train_arrays"], shuffled).predict(data["test_arrays"])
    assert abs(np.corrcoef(predicted, data["test_ages"])[0, 1]) < 0.5


def test_fine_grids_are_averaged_until_they_fit():
    ages = np.linspace(20, 90, 8)
    baseline = fit_linear_baseline(brains(ages, 0, (41, 40, 39)), ages)
    assert baseline.grid.pool == 2
    assert baseline.grid.mask.size == 21 * 20 * 20 <= MAX_FEATURES


@pytest.fixture
def inner_splits(monkeypatch) -> list:
    """Inner folds of every fit, in order."""
    seen = []
    original = RidgeCV.fit

    def fit(self, X, y):
        seen.append(self.cv)
        return original(self, X, y)

    monkeypatch.setattr(RidgeCV, "fit", fit)
    return seen


def test_scans_of_one_person_stay_together_in_the_inner_folds(inner_splits, data):
    subjects = np.array([f"sub-{index // 3}" for index in range(60)])
    fit_linear_baseline(data["train_arrays"], data["train_ages"], subject_ids=list(subjects))
    assert len(inner_splits[0]) == 5
    for inner_train, inner_test in inner_splits[0]:
        assert not set(subjects[inner_train]) & set(subjects[inner_test])


def test_inner_folds_follow_the_seed(inner_splits, data):
    for seed in (3, 3, 4):
        fit_linear_baseline(data["train_arrays"], data["train_ages"], seed=seed)
    first, again, other = ([list(test) for _, test in splits] for splits in inner_splits)
    assert first == again != other


def test_another_grid_is_refused(data):
    baseline = fit_linear_baseline(data["train_arrays"], data["train_ages"])
    with pytest.raises(ShapeError, match=r"\(6, 7, 5\), got \(5, 7, 6\)"):
        baseline.predict(np.zeros((2, 5, 7, 6), np.float16))


def test_one_subject_and_blank_scans_are_refused(data):
    arrays, ages = data["train_arrays"][:4], data["train_ages"][:4]
    with pytest.raises(CohortError, match="at least 2 training subjects, got 1"):
        fit_linear_baseline(arrays, ages, subject_ids=["a"] * 4)
    with pytest.raises(CohortError, match="no voxel differs"):
        fit_linear_baseline(np.zeros_like(arrays), ages)


def test_ages_of_another_number_are_refused(data):
    with pytest.raises(ShapeError, match=r"\(60,\)"):
        fit_linear_baseline(data["train_arrays"], data["train_ages"][:5])


def test_real_scans_are_predicted_far_better_than_by_the_constant(data_root):
    table = pd.read_csv(data_root / "oasis1" / "cohort.csv").query("CDR != CDR or CDR == 0")
    table = table.drop_duplicates("subject").sample(120, random_state=0)
    ages = table["age"].to_numpy(float)
    arrays = np.stack([_coarse(data_root / "oasis1" / path) for path in table["path"]])
    predictions = baseline_predictions(arrays[:90], ages[:90], arrays[90:])
    metrics = baseline_metrics(ages[90:], predictions)
    assert 5.0 < metrics["linear"]["mae_years"] < 11.0
    assert metrics["constant"]["mae_years"] > 18.0


def _coarse(path) -> np.ndarray:
    """Every voxel the mean of 4 x 4 x 4 (8 mm), scaled inside the brain."""
    data = np.asarray(nib.load(path).dataobj, dtype=np.float32)
    i, j, k = (side // 4 for side in data.shape)
    data = data[: 4 * i, : 4 * j, : 4 * k].reshape(i, 4, j, 4, k, 4).mean(axis=(1, 3, 5))
    return (data / data[data > 0].mean()).astype(np.float16)
