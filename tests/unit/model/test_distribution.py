"""Distributions over ages, of one network and of several."""

import numpy as np
import pytest
import torch

from brainage.lfnn.targets import Ages
from brainage.model.build import build_model, build_target
from brainage.model.distribution import (
    AgeDistribution,
    fitting_threads,
    mix_distributions,
    predict_distribution,
)
from tests.small import make_config

CONFIG = make_config("cnn3d_light")


@pytest.fixture(scope="module")
def arrays() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (5, 16, 16, 16)).astype(np.float16)


def test_spread_is_the_standard_deviation_over_the_bins():
    target = Ages(20.0, 60.0, 5)
    outputs = torch.log(torch.tensor([[0.5, 0.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(target.predict(outputs), [40.0, 30.0], atol=1e-4)
    np.testing.assert_allclose(target.spread(outputs), [20.0, 0.0], atol=1e-4)


def test_median_lies_where_half_of_the_distribution_is_below():
    target = Ages(20.0, 60.0, 5)
    shares = [[0.1, 0.2, 0.4, 0.2, 0.1], [0.6, 0.1, 0.1, 0.1, 0.1], [0.25, 0.25, 0.0, 0.25, 0.25]]
    median = target.median(torch.log(torch.tensor(shares)))
    # Bins are 10 years wide: 5/6 into the first, which begins at 15; where the second one ends.
    np.testing.assert_allclose(median, [40.0, 15 + 10 * 0.5 / 0.6, 35.0], atol=1e-3)
    certain = torch.full((1, 5), -100.0)
    certain[0, -1] = 100.0
    np.testing.assert_allclose(target.median(certain), [60.0], atol=1e-3)


def test_predicted_age_is_the_median_where_the_settings_say_so(arrays):
    model, target = build_model(CONFIG).eval(), build_target(CONFIG.target)
    assert isinstance(target, Ages)
    mean = predict_distribution(model, target, arrays)
    median = predict_distribution(model, target, arrays, point="median")
    with torch.no_grad():
        outputs = model(torch.from_numpy(arrays.astype(np.float32))[:, None])
    np.testing.assert_allclose(median.predicted_age_years, target.median(outputs), rtol=1e-5)
    assert np.abs(median.predicted_age_years - mean.predicted_age_years).max() > 1e-3
    np.testing.assert_array_equal(median.spread_years, mean.spread_years)


def test_predicting_is_in_evaluation_mode_and_leaves_the_model_in_its_own(arrays):
    model, target = build_model(CONFIG), build_target(CONFIG.target)
    whole = predict_distribution(model, target, arrays, batch_size=5)
    parts = predict_distribution(model, target, arrays, batch_size=2)
    np.testing.assert_allclose(whole.predicted_age_years, parts.predicted_age_years, rtol=1e-5)
    assert (whole.spread_years > 1).all() and model.training


def test_mixture_of_two_certain_members_who_disagree_is_uncertain():
    parts = [AgeDistribution(np.array([40.0]), np.array([0.0]))]
    parts.append(AgeDistribution(np.array([60.0]), np.array([0.0])))
    mixed = mix_distributions(parts)
    assert mixed.predicted_age_years[0] == 50.0 and mixed.spread_years[0] == 10.0


def test_averaging_all_heads_is_the_mean_of_the_blocks_predictions(arrays):
    model, target = build_model(CONFIG).eval(), build_target(CONFIG.target)
    averaged = predict_distribution(model, target, arrays, average_heads="all")
    with torch.no_grad():
        outputs = model.block_outputs(torch.from_numpy(arrays.astype(np.float32))[:, None])
        blocks = [target.predict(item.mean(dim=1)).numpy() for item in outputs if item is not None]
    assert len(blocks) == 3
    np.testing.assert_allclose(averaged.predicted_age_years, np.mean(blocks, axis=0), rtol=1e-4)


def test_one_number_has_no_spread_and_no_scan_no_prediction(arrays):
    content = CONFIG.model_copy(
        update={"target": CONFIG.target.model_copy(update={"kind": "scalar"})}
    )
    model, target = build_model(content), build_target(content.target)
    assert (predict_distribution(model, target, arrays).spread_years == 0).all()
    assert predict_distribution(model, target, arrays[:0]).spread_years.shape == (0,)


def test_mirrored_scans_are_predicted_alike_where_both_sides_are_averaged(arrays):
    model, target = build_model(CONFIG).eval(), build_target(CONFIG.target)
    plain = predict_distribution(model, target, arrays).predicted_age_years
    first, second = (
        predict_distribution(model, target, item, mirror=True).predicted_age_years
        for item in (arrays, arrays[:, ::-1])
    )
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.abs(first - plain).max() > 1e-4


@pytest.mark.parametrize(("voxels", "threads"), [(64**3, 1), (64**3 + 1, 2)])
def test_small_volumes_are_computed_on_one_thread_and_others_as_before(voxels, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), fitting_threads(voxels):
            assert torch.get_num_threads() == threads
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_predictions_keep_to_the_fitting_threads(arrays):
    model, seen = build_model(CONFIG), []
    model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predict_distribution(model, build_target(CONFIG.target), arrays)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
