"""Tissue volumes of drawn tissue."""

import numpy as np
import pytest

from brainage.errors import ConfigError, ShapeError
from brainage.evaluation.baselines import BASELINES, baseline_predictions
from brainage.evaluation.features import TissuePriors, tissue_volumes

SHAPE = (12, 12, 12)


def priors() -> TissuePriors:
    """Fluid, grey and white matter in slabs, each with a tenth of the others."""
    maps = np.full((3, *SHAPE), 0.1, np.float32)
    maps[2, :3] = maps[0, 3:8] = maps[1, 8:] = 0.8
    return TissuePriors(*maps, spacing_mm=10.0)


def drawn(whites: int, seed: int = 0) -> np.ndarray:
    """Fluid, grey and white matter in slabs; `whites` of 12 slices are white."""
    scan = np.full(SHAPE, -0.2)
    scan[:3], scan[12 - whites :] = -2.0, 1.2
    scan += np.random.default_rng(seed).normal(0, 0.1, SHAPE)
    return scan.astype(np.float16)


def test_volumes_sum_to_the_brain():
    volumes = tissue_volumes(drawn(4)[None], priors())
    assert volumes.sum() == pytest.approx(12**3 / 1000, rel=1e-6)


def test_prior_tells_which_tissue_is_which_and_intensity_how_much_of_it():
    grey, white, fluid = tissue_volumes(np.stack([drawn(4), drawn(6)]), priors()).T
    np.testing.assert_allclose(white, [4 * 0.144, 6 * 0.144], rtol=0.05)
    np.testing.assert_allclose(grey, [5 * 0.144, 3 * 0.144], rtol=0.05)
    np.testing.assert_allclose(fluid, 3 * 0.144, rtol=0.05)


def test_other_grid_is_refused():
    with pytest.raises(ShapeError, match="tissue volumes"):
        tissue_volumes(np.zeros((1, 4, 4, 4), np.float16), priors())


@pytest.mark.parametrize("name", BASELINES[1:])
def test_every_baseline_beats_the_constant_where_tissue_follows_age(name):
    random = np.random.default_rng(0)
    ages = random.uniform(20, 90, 60)
    scans = np.stack([drawn(6, seed) for seed in range(60)]).astype(np.float32)
    # The share of fluid grows with age, one voxel after the other.
    order = np.random.default_rng(1).permutation(144 * 3)
    for scan, age in zip(scans, ages, strict=True):
        scan[3:6].reshape(-1)[order[: int(6 * (age - 20))]] = -2.0
    arrays = scans.astype(np.float16)
    both = baseline_predictions(
        arrays[:40], ages[:40], arrays[40:], names=("constant", name), priors=priors()
    )
    errors = {key: np.abs(value - ages[40:]).mean() for key, value in both.items()}
    assert errors[name] < 0.6 * errors["constant"]


def test_unknown_baseline_or_missing_priors_are_refused():
    scans, ages = np.stack([drawn(4), drawn(5)]), [30.0, 60.0]
    with pytest.raises(ConfigError, match="unknown forest"):
        baseline_predictions(scans, ages, scans, names=("forest",))
    with pytest.raises(ConfigError, match="tissue maps"):
        baseline_predictions(scans, ages, scans, names=("volumes",))
