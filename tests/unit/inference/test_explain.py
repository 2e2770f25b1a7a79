"""Maps of networks whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainage.errors import ConfigError
from brainage.inference.attribution import (
    explain_scan,
    outside_share,
    randomisation_similarity,
    region_table,
)
from brainage.lfnn.targets import ScalarAge
from brainage.model.build import build_model
from brainage.model.bundle import load_bundle, save_bundle
from brainage.types import MAP_METHODS
from tests.small import make_config

OLDER, YOUNGER = (4, 4, 4), (8, 8, 8)


class TwoVoxels(nn.Module):
    """Reads one voxel that makes older and one that makes younger, nothing else."""

    def forward(self, volumes: Tensor) -> Tensor:
        return (2 * volumes[:, 0, *OLDER] - volumes[:, 0, *YOUNGER])[:, None]


@pytest.fixture
def scan() -> np.ndarray:
    array = np.zeros((12, 12, 12), np.float16)
    array[2:10, 2:10, 2:10] = 1.0
    return array


@pytest.mark.parametrize("method", MAP_METHODS)
def test_signs_and_places_are_those_of_the_network(scan, method):
    networks = [(TwoVoxels(), ScalarAge(0.0, 2.0))]
    found = explain_scan(networks, scan, method).attribution
    assert found[OLDER] > 0 > found[YOUNGER]
    assert abs(found[OLDER]) > 1.5 * abs(found[YOUNGER])
    assert np.abs(found).argmax() == np.ravel_multi_index(OLDER, found.shape) or method[0] == "o"


def test_integrated_gradients_sum_to_the_difference_in_years(scan):
    found = explain_scan([(TwoVoxels(), ScalarAge(0.0, 2.0))], scan, "integrated_gradients")
    # From mean intensity (0) to the scan: 2·1 − 1 = 1 half range = 1 year.
    assert found.attribution.sum() == pytest.approx(1.0, abs=1e-4)


def test_share_outside_the_brain(scan):
    attribution = np.zeros(scan.shape, np.float32)
    attribution[5, 5, 5], attribution[0, 0, 0] = -3.0, 1.0
    assert outside_share(attribution, scan) == 0.25


def test_unknown_method_is_refused(scan):
    with pytest.raises(ConfigError, match="gradcam"):
        explain_scan([], scan, "gradcam")


def test_network_with_other_weights_has_another_map_and_the_same_one_the_same(tmp_path):
    config = make_config("cnn3d_light")
    save_bundle(tmp_path, build_model(config), config, {})
    bundle = load_bundle(tmp_path)
    array = np.random.default_rng(0).normal(0, 1, (16, 16, 16)).astype(np.float16)
    networks = [(bundle.model, bundle.target)]
    maps = [explain_scan(networks, array, seed=3).attribution for _ in "ab"]
    np.testing.assert_array_equal(*maps)
    assert abs(randomisation_similarity(bundle, array)) < 0.5
    assert torch.equal(
        bundle.model.state_dict()["blocks.0.head.bias"], build_model(config)[0].head.bias
    )


def test_regions_share_the_attribution_by_sign():
    labels = np.array([[[0, 1], [1, 2]]])
    attribution = np.array([[[1.0, 2.0], [-3.0, 0.0]]], np.float32)
    table = region_table([attribution, attribution], labels, ("a", "b", "c")).set_index("region")
    assert table.loc["b", ["older", "younger", "net"]].tolist() == [2.0, -3.0, -1.0]
    assert table["share"].tolist() == pytest.approx([5 / 6, 1 / 6, 0.0])
    assert table["voxels"].sum() == 4
