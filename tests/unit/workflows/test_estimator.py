"""The scikit-learn estimator: it obeys scikit-learn, and gives what the command line gives."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from brainage.cohorts.cohort import Cohort, read_cohort
from brainage.errors import CohortError, ConfigError, ShapeError
from brainage.workflows import estimator
from brainage.workflows.estimator import BrainAgeRegressor
from brainage.workflows.train import train

TINY = {
    "training.epochs": 1,
    "network.arguments": {"channels": [2, 4]},
    "learning.workers_per_block": 2,
    "target.bins": 8,
}


def tiny(**parameters) -> BrainAgeRegressor:
    return BrainAgeRegressor(**{"config": "phantom", "settings": TINY, **parameters})


def volumes(count: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ages = random.uniform(20, 80, count)
    noise = random.normal(0, 1, (count, 8, 8, 8))
    return (noise + ages[:, None, None, None] / 40).astype(np.float32), ages


@pytest.mark.slow
def test_scikit_learns_checks_pass():
    check_estimator(tiny())


def test_clone_takes_parameters_and_no_state():
    fitted = tiny(blocks=2, random_state=3).fit(*volumes())
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params() and not hasattr(fresh, "model_")
    assert fresh.set_params(blocks=1).blocks == 1


def test_fitted_attributes_tell_of_the_training():
    fitted = tiny(blocks=2).fit(*volumes())
    assert len(fitted.model_.bundle.model) == 2 and len(fitted.history_) == 1
    assert fitted.config_.preprocessing.shape == (8, 8, 8)


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, pd.Index, pd.array])
def test_paths_may_come_in_any_sequence(kind):
    assert estimator._is_paths(kind(["a.nii", "b.nii"]))
    assert not estimator._is_paths(kind([1.0, 2.0]))


def test_the_same_seed_gives_the_same_ages_and_another_does_not():
    scans, ages = volumes()
    first, again, other = (tiny(random_state=n).fit(scans, ages).predict(scans) for n in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_scans_age_does_not_depend_on_its_neighbours():
    scans, ages = volumes()
    fitted = tiny().fit(scans, ages)
    assert np.array_equal(fitted.predict(scans)[4:6], fitted.predict(scans[4:6]))


def test_intervals_hold_the_prediction():
    scans, ages = volumes(30)
    fitted = tiny(settings=TINY | {"split.validation_fraction": 0.4}).fit(scans, ages)
    low, high = fitted.predict_interval(scans, level=0.8).T
    predicted = fitted.predict(scans)
    assert (low <= predicted).all() and (predicted <= high).all()
    assert np.isnan(fitted.predict_interval(scans, level=0.99)).all()


def test_nobody_both_trains_and_validates(monkeypatch):
    seen = {}

    def spy(prepared, split, config, options):
        seen["parts"] = [
            set(prepared.cohort.table["subject_id"].iloc[part])
            for part in (split.train, split.validation)
        ]
        return run(prepared, split, config, options=options)

    run = estimator.train_run
    monkeypatch.setattr(estimator, "train_run", spy)
    scans, ages = volumes()
    tiny().fit(scans, ages, groups=np.arange(12) // 2)
    train_part, validation_part = seen["parts"]
    assert validation_part and not train_part & validation_part


def test_it_works_inside_a_search_and_a_pipeline():
    scans, ages = volumes()
    search = GridSearchCV(tiny(), {"method": ["bp", "lfnn_l"]}, cv=2).fit(scans, ages)
    assert search.best_params_["method"] in ("bp", "lfnn_l")
    table = scans.reshape(12, -1)[:, :20]
    assert make_pipeline(StandardScaler(), tiny()).fit(table, ages).predict(table).shape == (12,)


def test_settings_choose_the_method_and_contradict_no_parameter():
    asked = TINY | {"learning.method": "bp"}
    assert tiny(settings=asked).fit(*volumes()).config_.learning.method == "bp"
    assert tiny(settings=asked, method="bp")._build_config().learning.method == "bp"
    with pytest.raises(ConfigError, match=r"learning\.method is 'bp' in settings"):
        tiny(settings=asked, method="lfnn_l").fit(*volumes())
    with pytest.raises(ConfigError, match="seed is 9"):
        tiny(settings=TINY | {"seed": 9}, random_state=3).fit(*volumes())


@pytest.mark.parametrize("blank", ["", " ", None, np.nan])
def test_scans_without_a_person_are_not_one_persons(blank):
    groups = [blank, blank, *map(str, range(10))]
    with pytest.raises(CohortError, match="2 have none"):
        tiny().fit(*volumes(), groups=groups)


def test_wrong_input_is_refused():
    scans, ages = volumes()
    with pytest.raises(ConfigError):
        tiny(method="none").fit(scans, ages)
    with pytest.raises(ValueError, match="NaN"):
        tiny().fit(np.where(scans > 3, np.nan, scans), ages)
    with pytest.raises(CohortError, match="of 0 to"):
        tiny().fit(["a.nii", "b.nii"], [30.0, 130.0])
    with pytest.raises(ShapeError, match="expected scans"):
        tiny().fit(scans, ages).predict(np.zeros((1, 8, 9, 8), np.float32))


def compare_with_command(cohort: Cohort, settings: dict, folder, folds: int) -> None:
    """Predictions of the estimator and of `train` on folds of scikit-learn's."""
    table = cohort.table
    subjects = table["subject_id"].to_numpy()
    labels = np.empty(len(table), dtype=int)
    for number, (_, test) in enumerate(GroupKFold(folds).split(table, groups=subjects)):
        labels[test] = number
    run = train(
        Cohort(table.assign(fold=labels), cohort.source),
        folder / "run",
        "phantom",
        settings=settings,
        folds="fold",
        baselines=(),
    )
    regressor = BrainAgeRegressor(config="phantom", settings=settings)
    predicted = cross_val_predict(
        regressor,
        table["path"],
        table["age_years"],
        groups=subjects,
        cv=GroupKFold(folds),
        params={"groups": subjects},
    )
    expected = run.predictions.set_index("scan_id").loc[table["scan_id"], "predicted_age_years"]
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_folds_of_phantoms_give_what_train_gives(tmp_path, phantom_cohort):
    cohort = read_cohort(phantom_cohort).cohort.select(range(9))
    twice = pd.Series(cohort.table["subject_id"]).replace({"sub-0002": "sub-0001"})
    cohort = Cohort(cohort.table.assign(subject_id=twice, site=""), cohort.source)
    compare_with_command(cohort, TINY, tmp_path, folds=2)


@pytest.mark.slow
def test_folds_of_40_real_scans_give_what_train_gives(tmp_path, data_root):
    healthy = read_cohort(data_root / "oasis1" / "cohort.csv", where="CDR != CDR or CDR == 0")
    cohort = healthy.cohort.select(range(40))
    compare_with_command(cohort, {"training.epochs": 2}, tmp_path, folds=5)


@pytest.fixture(scope="module")
def fitted() -> BrainAgeRegressor:
    return tiny(random_state=0).fit(*volumes())


@pytest.mark.parametrize(
    "change",
    [
        lambda scans: scans.astype(np.float64),
        lambda scans: torch.from_numpy(scans),
        lambda scans: list(scans),
        lambda scans: np.asfortranarray(scans),
        lambda scans: scans[::-1][::-1],
    ],
    ids=["float64", "tensor", "list", "fortran", "reversed"],
)
def test_scans_keep_their_precision_in_any_container(fitted, change):
    scans, ages = volumes()
    predicted = fitted.predict(scans)
    assert np.array_equal(fitted.predict(change(scans)), predicted)
    assert np.array_equal(tiny(random_state=0).fit(change(scans), ages).predict(scans), predicted)


def test_scans_in_reversed_order_are_predicted(fitted):
    scans, _ = volumes()
    assert np.array_equal(fitted.predict(scans[::-1])[::-1], fitted.predict(scans))


def test_arrays_that_say_less_than_a_scan_are_refused(fitted):
    scans, ages = volumes()
    with pytest.raises(ShapeError, match="masked"):
        fitted.predict(np.ma.masked_greater(scans, 2))
    with pytest.raises(CohortError, match="ages"):
        tiny().fit(scans, ages * 12)  # months
    with pytest.raises(CohortError, match="fitted on"):
        fitted.predict(["a.nii"])


@pytest.mark.parametrize("missing", [None, np.nan])
def test_scans_without_a_subject_are_refused(missing):
    scans, ages = volumes()
    with pytest.raises(CohortError, match="groups"):
        tiny().fit(scans, ages, groups=[missing, missing, *"abcdefghij"])


def test_blanks_make_no_other_subject():
    cohort = estimator._build_cohort(np.array([30.0, 31.0]), ["s1", "s1 "])
    assert cohort.table["subject_id"].nunique() == 1
