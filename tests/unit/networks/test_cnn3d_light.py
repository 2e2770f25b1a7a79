"""The light CNN can leave the grid as it is where it is coarse already."""

import pytest

from brainage.errors import ConfigError
from brainage.lfnn.blocks import measure_shape
from brainage.networks import build_stages


def test_a_pool_of_one_keeps_the_grid() -> None:
    arguments = {"channels": [2, 3, 4], "pools": [2, 1, 2]}
    shape, shapes = (1, 8, 8, 12), []
    for stage in build_stages("cnn3d_light", 1, shape[1:], arguments).values():
        shape = measure_shape(stage, shape)
        shapes.append(shape)
    assert shapes == [(2, 4, 4, 6), (3, 4, 4, 6), (4, 2, 2, 3)]


def test_pools_of_another_number_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 channels need as many pools, got 2"):
        build_stages("cnn3d_light", 1, (8, 8, 8), {"channels": [2, 3, 4], "pools": [2, 2]})
