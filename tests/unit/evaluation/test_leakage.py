"""The permuted-age check passes clean folds and catches a leak."""

from dataclasses import dataclass

import numpy as np

from brainage.evaluation.leakage import (
    permutations_needed,
    permute_ages,
    permuted_age_check,
)


@dataclass(frozen=True)
class Fold:
    test: np.ndarray


AGES = np.random.default_rng(0).uniform(20, 90, 300)
SUBJECTS = [str(n) for n in range(300)]
FOLDS = [Fold(np.arange(300)[start::5]) for start in range(5)]


def test_mean_of_the_training_ages_passes():
    def fit_predict(fold, ages):
        return np.full(len(fold.test), np.delete(ages, fold.test).mean())

    assert permuted_age_check(AGES, SUBJECTS, FOLDS, fit_predict)["passed"]


def test_fit_that_sees_the_test_ages_is_caught():
    random = np.random.default_rng(1)

    def fit_predict(fold, ages):
        return ages[fold.test] + random.normal(0, 30, len(fold.test))

    result = permuted_age_check(AGES, SUBJECTS, FOLDS, fit_predict)
    assert result["r"] > 0.4 and not result["passed"]


def test_ages_are_dealt_between_people_not_scans():
    subjects = [str(n // 2) for n in range(40)]
    ages = np.repeat(np.arange(20, 40, dtype=float), 2)
    dealt = permute_ages(ages, subjects, seed=0)
    assert (dealt[::2] == dealt[1::2]).all() and not np.array_equal(dealt, ages)
    assert sorted(dealt) == sorted(ages)


def test_limit_of_a_cohort_as_small_as_the_real_one_is_that_of_the_issue():
    assert permutations_needed(242, 20) == 2 and permutations_needed(1000, 20) == 1
    random = np.random.default_rng(2)
    folds = [Fold(np.arange(242)[start::5]) for start in range(5)]

    def guess(fold, ages):
        return random.normal(0, 1, len(fold.test))

    result = permuted_age_check(AGES[:242], SUBJECTS[:242], folds, guess)
    assert result["limit"] == 0.15 and result["permutations"] == 2 and result["passed"]
    assert result["largest"] >= abs(result["r"])


def test_bound_on_permutations_widens_the_limit_of_a_tiny_cohort():
    folds = [Fold(np.arange(10))]
    result = permuted_age_check(
        AGES[:10], SUBJECTS[:10], folds, lambda fold, ages: np.arange(10.0), most_permutations=3
    )
    assert result["permutations"] == 3 and result["limit"] == 3 / np.sqrt(30)
