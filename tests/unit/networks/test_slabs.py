"""The first stage of usc_cnn3d slab by slab."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from brainage.networks import build_stages
from pipelines.speed.memory import LiveBytes


def run(slabs, size=(21, 15, 16)):
    arguments = {"channels": [3], "kernel_size": 6, "slabs": slabs}
    torch.manual_seed(0)
    stage = build_stages("usc_cnn3d", 1, size, arguments)["conv1"]
    torch.manual_seed(1)
    inputs = torch.randn(2, 1, *size)
    with LiveBytes() as live:
        features = stage(inputs)
        features.square().sum().backward()
    return features.detach(), stage, live.peak


@pytest.mark.parametrize("slabs", [2, 3, 8, 50])
def test_slabs_change_no_result(slabs):
    (plain, one, _), (found, other, _) = run(1), run(slabs)
    assert torch.allclose(plain, found, atol=1e-5)
    assert one.state_dict().keys() == other.state_dict().keys()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3)
    assert torch.allclose(one[3].running_mean, other[3].running_mean, atol=1e-6)


def test_slabs_hold_less():
    assert run(6, (61, 30, 30))[2] < 0.6 * run(1, (61, 30, 30))[2]


def test_pooling_before_relu_is_the_paper_s_order():
    arguments = {"channels": [4, 8], "kernel_size": 5, "dropout": 0.0}
    torch.manual_seed(0)
    ours = nn.Sequential(*build_stages("usc_cnn3d", 1, (32, 31, 30), arguments).values())
    paper = nn.Sequential(
        *[
            nn.Sequential(*deepcopy([stage[0], nn.ReLU(), nn.MaxPool3d(2), stage[3]]))
            for stage in ours
        ]
    )
    inputs = torch.randn(2, 1, 32, 31, 30, requires_grad=True)
    found, expected = ours(inputs), paper(inputs)
    assert torch.allclose(found, expected, atol=1e-4)
    pairs = (
        torch.autograd.grad(features.square().mean(), [inputs, *net.parameters()])
        for features, net in ((found, ours), (expected, paper))
    )
    for a, b in zip(*pairs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
