"""ComBat without covariates."""

import numpy as np
import pytest

from brainage.errors import CohortError, ShapeError
from brainage.evaluation.harmonise import fit_combat


def cohort(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    age = random.normal(0, 1, (n, 1))
    return age * np.linspace(-1, 1, 40) + random.normal(0, 0.5, (n, 40)) + 3


def test_shift_and_scale_of_a_scanner_are_taken_away():
    reference, site = cohort(200, 0), cohort(100, 1)
    harmonised = fit_combat(reference).harmonise(site * 1.6 - 2)
    before = np.abs(site * 1.6 - 2 - site).mean()
    assert np.abs(harmonised - site).mean() < 0.25 * before


def test_scans_of_the_reference_scanner_hardly_change():
    reference, site = cohort(200, 0), cohort(60, 2)
    changed = fit_combat(reference).harmonise(site) - site
    assert np.abs(changed).mean() < 0.2


def test_a_feature_without_variance_stays():
    reference = cohort(50, 0)
    reference[:, 3] = 7.0
    assert np.isfinite(fit_combat(reference).harmonise(cohort(20, 1))).all()


def test_few_scans_and_other_features_are_refused():
    combat = fit_combat(cohort(50, 0))
    with pytest.raises(CohortError, match="at least 10"):
        combat.harmonise(cohort(9, 1))
    with pytest.raises(ShapeError, match="expected features"):
        combat.harmonise(cohort(20, 1)[:, :5])
