"""Scans unlike the training scans are found, like ones are not."""

import numpy as np
import pytest

from brainage.errors import BundleError, CohortError
from brainage.evaluation.ood import appearance, fit_ood, ood_from_bytes

SHAPE = (6, 7, 5)


def brains(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    age = random.uniform(-1, 1, (n, 1, 1, 1))
    pattern = np.random.default_rng(99).normal(0, 1, SHAPE)
    return (age * pattern + random.normal(0, 0.3, (n, *SHAPE))).astype(np.float16)


@pytest.fixture(scope="module")
def fitted():
    return fit_ood(brains(80, 0), [str(n) for n in range(80)])


def test_new_scans_of_the_cohort_spread_over_the_percentiles(fitted):
    percentiles = fitted.percentile(brains(200, 1))
    assert 35 < np.median(percentiles) < 65 and (percentiles > 99).mean() < 0.1


@pytest.mark.parametrize(
    "change", [lambda scans: scans + 1, lambda scans: 3 * scans, lambda scans: scans[:, ::-1]]
)
def test_scans_from_elsewhere_lie_at_the_end(fitted, change):
    assert np.median(fitted.percentile(change(brains(50, 2)))) >= 99


def test_appearance_tells_another_sharpness_and_histogram_but_not_another_anatomy():
    scans = brains(60, 4)
    smooth = (scans + np.roll(scans, 1, axis=3)) / np.sqrt(np.float16(2))
    plain = appearance(scans)
    deviation = plain.std(axis=0) + 1e-9
    changed = np.abs(appearance(smooth).mean(axis=0) - plain.mean(axis=0)) / deviation
    mirrored = np.abs(appearance(scans[:, ::-1]) - plain).max()
    assert plain.shape == (60, 14) and changed.max() > 1 and mirrored < 1e-5


def test_score_survives_its_file(fitted):
    back = ood_from_bytes(fitted.to_bytes())
    scans = brains(20, 3)
    np.testing.assert_allclose(back.percentile(scans), fitted.percentile(scans), atol=2)
    with pytest.raises(BundleError, match="not readable"):
        ood_from_bytes(b"nothing")


def test_no_scan_has_no_percentile_and_few_people_no_score(fitted):
    assert fitted.percentile(brains(0, 0)).shape == (0,)
    with pytest.raises(CohortError, match="at least 4 subjects"):
        fit_ood(brains(6, 0), ["a", "b", "c"] * 2)
