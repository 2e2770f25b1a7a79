"""Normalisation in the brain."""

import numpy as np
import pytest

from brainage.errors import PreparationError
from brainage.preprocessing.intensity import CLIP, normalise_in_brain


def test_the_brain_gets_mean_0_and_deviation_1_and_the_rest_0() -> None:
    data = np.random.default_rng(0).normal(300, 20, (8, 9, 10)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[2:6, 2:6, 2:6] = True
    scaled = normalise_in_brain(data, mask, "scan")
    assert scaled[mask].mean() == pytest.approx(0, abs=1e-5)
    assert scaled[mask].std(ddof=1) == pytest.approx(1, abs=1e-5)
    assert not scaled[~mask].any()


def test_brightness_and_contrast_of_the_scanner_vanish() -> None:
    data = np.random.default_rng(0).normal(0, 1, (8, 9, 10)).astype(np.float32)
    mask = np.ones(data.shape, bool)
    plain, bright = (normalise_in_brain(scan, mask, "scan") for scan in (data, data * 70 + 500))
    np.testing.assert_allclose(plain, bright, atol=1e-4)


def test_outliers_are_clipped() -> None:
    data = np.random.default_rng(0).normal(0, 1, (8, 9, 10)).astype(np.float32)
    data[4, 4, 4] = 1e6
    assert normalise_in_brain(data, np.ones(data.shape, bool), "scan").max() == CLIP


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_a_brain_without_contrast_is_refused(value: float) -> None:
    data = np.full((8, 9, 10), value, np.float32)
    with pytest.raises(PreparationError, match="sub-1: there is no brain with contrast"):
        normalise_in_brain(data, np.ones(data.shape, bool), "sub-1")
