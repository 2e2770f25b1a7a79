"""Every preset of configs/images is complete: its network is built, cut and answers."""

import pytest
import torch

from brainage.config import load_preset, preset_names
from brainage.images.sets import resolve_images
from brainage.model.build import build_model, describe_cut

LARGE = ("resnet101", "resnet110", "resnet152", "resnet50", "vit_b16")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
        for name in preset_names("images")
    ],
)
def test_the_preset_builds_a_network_that_answers(name):
    config = resolve_images(load_preset(name, "images"))
    stack = build_model(config).eval()
    outputs = stack(torch.zeros(1, *config.input_shape))
    assert outputs.shape == (1, config.target.classes)
    assert len(stack) == len(describe_cut(config))
