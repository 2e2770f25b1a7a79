"""The light CNN can leave the grid as it is where it is coarse already."""

import pytest
import torch

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


@pytest.mark.parametrize("name", ["cnn3d_light", "sfcn"])
def test_the_first_maps_have_their_channels_beside_each_other(name: str) -> None:
    stage = next(iter(build_stages(name, 1, (64, 64, 64), {}).values()))
    maps = stage[0](torch.zeros(2, 1, 8, 8, 8))
    assert maps.is_contiguous(memory_format=torch.channels_last_3d)
