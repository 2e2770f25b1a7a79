"""The parts that models of voxels are made of, on arrays small enough for a hand."""

import numpy as np
import pandas as pd
import pytest

from brainage.evaluation import baselines
from brainage.evaluation.features import (
    TissuePriors,
    VoxelGrid,
    fit_grid,
    pool_voxels,
    tissue_volumes,
)
from brainage.evaluation.normative import make_reference
from brainage.evaluation.ood import OutOfDistribution, appearance, fit_ood


def test_pooled_voxels_are_means_of_cubes_filled_up_with_zeros() -> None:
    array = np.arange(3 * 2 * 2, dtype=np.float16).reshape(3, 2, 2)
    assert pool_voxels(array, (3, 2, 2), 1).tolist() == list(range(12))
    # Two cubes: voxels 0 to 7, and 8 to 11 beside four zeros.
    assert pool_voxels(array, (3, 2, 2), 2).tolist() == [28 / 8, 38 / 8]


def test_cubes_grow_until_few_enough_features_remain_and_constant_ones_go() -> None:
    arrays = np.zeros((3, 4, 4, 4), np.float16)
    arrays[2, 0, 0, 0] = 1
    assert (fit_grid(arrays, 64).pool, fit_grid(arrays, 63).pool, fit_grid(arrays, 8).pool) == (
        1,
        2,
        2,
    )
    grid = fit_grid(arrays, 8)
    assert grid.mask.tolist() == [True] + [False] * 7 and grid.shape == (4, 4, 4)
    assert grid.features(arrays).tolist() == [[0.0], [0.0], [1 / 8]]


def test_volumes_are_the_brains_voxels_shared_out_in_litres() -> None:
    random = np.random.default_rng(0)
    tissue = random.integers(0, 3, (8, 8, 8))
    priors = [np.where(tissue == kind, 0.8, 0.1).astype(np.float32) for kind in range(3)]
    for prior in priors:
        prior[0] = 0
    level = np.array([2.0, 3.0, 1.0])[tissue] + random.normal(0, 0.05, tissue.shape)
    level[:, 0] = 0
    volumes = tissue_volumes(level[None].astype(np.float16), TissuePriors(*priors, 5.0))
    inside = tissue[1:, 1:]
    expected = [(inside == kind).sum() * 125 / 1e6 for kind in range(3)]
    np.testing.assert_allclose(volumes, [expected], rtol=0.02)
    assert volumes.sum() == pytest.approx(inside.size * 125 / 1e6, rel=1e-6)


def test_appearance_is_quantiles_steps_and_the_brains_share() -> None:
    volume = np.random.default_rng(0).uniform(1, 2, (5, 6, 7)).astype(np.float16)
    volume[0] = 0
    brain = volume[1:].astype(np.float64)
    expected = list(np.percentile(brain, (2, 10, 25, 50, 75, 90, 98)))
    for axis in range(3):
        first = np.diff(brain, axis=axis)
        expected += [np.log(np.abs(first).mean()), np.log(np.abs(np.diff(first, axis=axis)).mean())]
    expected.append(4 / 5)
    blank = np.zeros_like(volume)
    rows = appearance(np.stack([volume, blank]))
    np.testing.assert_allclose(rows[0], expected, rtol=1e-3)
    assert not rows[1].any()


def test_a_single_voxel_has_no_steps() -> None:
    volume = np.zeros((1, 3, 3, 3), np.float16)
    volume[0, 1, 1, 1] = 2
    row = appearance(volume)[0]
    assert row[:7].tolist() == [2.0] * 7
    np.testing.assert_allclose(row[7:13], np.log(1e-6), rtol=1e-6)
    assert row[13] == pytest.approx(1 / 27)


def score(**changes: object) -> OutOfDistribution:
    """Eight voxels, of which the first varies with standard deviation 2; plain appearance."""
    parts = {
        "grid": VoxelGrid((2, 2, 2), 1, np.ones(8, bool)),
        "mean": np.ones(8, np.float32),
        "components": np.eye(1, 8, dtype=np.float32),
        "variances": np.array([4.0], np.float32),
        "appearance_mean": np.zeros(14, np.float32),
        "appearance_precision": np.zeros((14, 14), np.float32),
        "scales": np.array([2.0, 4.0, 1.0], np.float32),
        "quantiles": np.linspace(0, 10, 101).astype(np.float32),
    }
    return OutOfDistribution(**(parts | changes))


def test_distance_is_hotellings_t2_and_the_residual_over_their_medians() -> None:
    scan = np.ones((1, 2, 2, 2), np.float16)
    scan[0, 0, 0, 0] = 7  # 6 along the direction: T² = 36 / 4 = 9
    scan[0, 0, 0, 1] = 5  # 4 outside it: Q = 16
    # 9 / 2 + 16 / 4 = 8.5 of quantiles from 0 to 10.
    assert score().percentile(scan) == pytest.approx([85.0])
    looks = np.zeros((14, 14), np.float32)
    looks[13, 13] = 1.0
    mean = np.zeros(14, np.float32)
    mean[13] = 0.5  # The brain's share is 1: distance 0.25.
    changed = score(appearance_mean=mean, appearance_precision=looks)
    assert changed.percentile(scan) == pytest.approx([87.5])
    assert score().percentile(np.full((1, 2, 2, 2), 60, np.float16)) == [100.0]


def test_the_fitted_scales_are_medians_so_that_a_usual_scan_has_distance_three() -> None:
    random = np.random.default_rng(0)
    arrays = random.normal(3, 1, (40, 4, 4, 4)).astype(np.float16)
    fitted = fit_ood(arrays, [str(number) for number in range(40)])
    assert fitted.quantiles.shape == (101,) and (np.diff(fitted.quantiles) >= 0).all()
    assert 2 < fitted.quantiles[50] < 5
    assert fitted.components.shape == (6, 64) and (fitted.scales > 0).all()
    np.testing.assert_allclose(fitted.mean, arrays.astype(float).mean(axis=0).ravel(), atol=0.01)
    np.testing.assert_allclose(fitted.components @ fitted.components.T, np.eye(6), atol=1e-4)
    np.testing.assert_allclose(fitted.appearance_mean, appearance(arrays).mean(axis=0), rtol=1e-3)
    again = fit_ood(arrays, [str(number) for number in range(40)], seed=0)
    np.testing.assert_array_equal(again.quantiles, fitted.quantiles)


def test_people_are_counted_in_cells_of_five_years_and_two_of_gap() -> None:
    table = pd.DataFrame(
        {
            "subject_id": list("abcd"),
            "age_years": [50.0, 54.9, 55.0, 89.0],
            "predicted_age_years": [51.9, 54.0, 55.0, 92.0],
        }
    )
    reference = make_reference(table, "held_out")
    assert reference.cells.tolist() == [[50, -2, 1], [50, 0, 1], [55, 0, 1], [85, 2, 1]]
    assert reference.to_json()["source"] == "held_out"
    np.testing.assert_allclose(
        reference.predicted_age_years, reference.age_years + reference.brain_age_gap_years
    )


def test_baselines_search_what_their_description_says() -> None:
    subjects = np.array(list("aabbcc"))
    ridge = baselines._ridge(subjects, 3, 100, 0)
    assert ridge[-1].alphas == baselines.PENALTIES and ridge[-1].scoring == baselines._SCORING
    assert baselines.PENALTIES[0] == 1 and baselines.PENALTIES[-1] == 1e7
    assert len(ridge[-1].cv) == 3 and ridge[0].n_components == 3
    vectors = baselines._svr(subjects, 3, 100, 0)
    assert vectors[-1].param_grid == {
        "C": [30.0, 300.0, 3000.0], "gamma": [0.03, 0.3], "epsilon": [1.0],
    }  # fmt: skip
    assert vectors[-1].scoring == baselines._SCORING and len(vectors[-1].cv) == 3
    process = baselines._gaussian_process(subjects, 3, 100, 5)[-1]
    assert str(process.kernel) == (
        "1**2 * DotProduct(sigma_0=0.1) + 1**2 * RBF(length_scale=1) + WhiteKernel(noise_level=0.1)"
    )
    assert process.normalize_y and process.random_state == 5
    for make in (baselines._ridge, baselines._svr, baselines._gaussian_process):
        assert make(subjects, 3, 100, 5)[0].random_state == 5
    volumes = baselines._volume_ridge(subjects, 0)
    np.testing.assert_allclose(volumes[-1].alphas, np.logspace(-3, 3, 13))
    assert volumes[-1].scoring == baselines._SCORING and len(volumes[-1].cv) == 3
    # Three volumes, their squares and products, no constant.
    columns = volumes[:-1].fit_transform(np.random.default_rng(0).normal(2, 3, size=(9, 3)))
    assert columns.shape == (9, 9)
    np.testing.assert_allclose([columns.mean(0), columns.std(0)], [[0] * 9, [1] * 9], atol=1e-12)


def test_the_scale_of_kernels_is_the_root_of_the_number_of_features() -> None:
    scaled = baselines._scaler(100).transform(np.full((1, 3), 20.0, np.float32))
    assert scaled.tolist() == [[2.0] * 3] and scaled.dtype == np.float32


@pytest.mark.parametrize(("count", "solver"), [(19, "full"), (20, "randomized")])
def test_few_components_are_computed_exactly(count: int, solver: str) -> None:
    pca = baselines._components(count, 7)
    assert (pca.n_components, pca.svd_solver, pca.random_state) == (count, solver, 7)


def test_inner_folds_are_five_at_most_and_keep_people_together() -> None:
    subjects = np.repeat(np.arange(12), 2)
    folds = baselines._inner_folds(subjects, 1)
    assert len(folds) == 5
    for train, test in folds:
        assert not set(subjects[train]) & set(subjects[test])
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(24))
    other = baselines._inner_folds(subjects, 2)
    assert [list(test) for _, test in folds] != [list(test) for _, test in other]


def test_all_baselines_predict_and_no_test_scan_gives_no_prediction() -> None:
    random = np.random.default_rng(0)
    ages = random.uniform(20, 80, 24)
    arrays = random.normal(2, 0.1, (24, 4, 4, 4)) + ages[:, None, None, None] / 40
    arrays = arrays.astype(np.float16)
    share = np.full((4, 4, 4), 1 / 3, np.float32)
    names = ["constant", "linear", "gaussian_process", "svr", "volumes"]
    found = baselines.baseline_predictions(
        arrays[:20],
        ages[:20],
        arrays[20:],
        names=names,
        priors=TissuePriors(share, share, share, 4.0),
    )
    assert list(found) == names and all(values.shape == (4,) for values in found.values())
    assert (found["constant"] == np.median(ages[:20])).all()
    for name in ("linear", "gaussian_process", "svr"):
        assert np.abs(found[name] - ages[20:]).mean() < 8
    none = baselines.baseline_predictions(
        arrays,
        ages,
        arrays[:0],
        names=["linear", "volumes"],
        priors=TissuePriors(share, share, share, 4.0),
    )
    assert all(values.shape == (0,) for values in none.values())
    assert list(baselines.baseline_predictions(arrays, ages, arrays)) == ["constant", "linear"]
