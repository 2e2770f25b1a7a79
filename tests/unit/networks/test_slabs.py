"""The stages of usc_cnn3d: slab by slab, the paper's order, dropout."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from brainage.networks import build_stages
from brainage.networks._slabs import UniformDropout
from pipelines.speed.memory import LiveBytes, count_saved_bytes


def run(slabs, size=(21, 15, 16), channels=3):
    arguments = {"channels": [channels], "kernel_size": 6, "slabs": slabs}
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
    assert run(6, (61, 30, 30), 16)[2] < 0.6 * run(1, (61, 30, 30), 16)[2]


@pytest.mark.parametrize("slabs", [1, 5])
def test_maps_before_the_pooling_are_not_kept(slabs):
    arguments = {"channels": [16], "kernel_size": 6, "slabs": slabs}
    stage = build_stages("usc_cnn3d", 1, (41, 37, 37), arguments)["conv1"]
    inputs = torch.randn(2, 1, 41, 37, 37)
    with count_saved_bytes([*stage.parameters(), inputs]) as saved:
        stage(inputs)
    maps = 2 * 16 * 36 * 32 * 32 * 4
    unfolded = 2 * 6 * 36 * 37 * 37 * 4  # slabs share none of it
    # Places of the maxima (8 bytes), maxima after ReLU, the same joined from slabs, normalised.
    assert saved.peak < maps / 8 * 6 + 1.02 * unfolded < maps + unfolded


@pytest.mark.parametrize("scans_need_gradients", [False, True])
@pytest.mark.parametrize("is_half", [False, True])
def test_the_gradient_is_that_of_plain_modules(scans_need_gradients, is_half):
    torch.manual_seed(0)
    stages = build_stages("usc_cnn3d", 1, (18, 17, 19), {"channels": [4], "kernel_size": 6})
    stage = stages["conv1"]
    plain = nn.Sequential(deepcopy(stage[0]), nn.MaxPool3d(2), nn.ReLU())
    inputs = torch.randn(2, 1, 18, 17, 19, requires_grad=scans_need_gradients)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        found, expected = stage[:3](inputs), plain(inputs)
    weights = torch.randn(found.shape)
    wanted = [stage[0].weight, stage[0].bias], [plain[0].weight, plain[0].bias]
    wanted = [[*group, inputs] if scans_need_gradients else group for group in wanted]
    ours, theirs = (
        torch.autograd.grad((features.float() * weights).sum(), group)
        for features, group in zip((found, expected), wanted, strict=True)
    )
    tolerance = 0.05 if is_half else 1e-4
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert (a - b).norm() <= tolerance * b.norm()


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_share_and_the_mean(dtype):
    torch.manual_seed(0)
    values = torch.ones(40_000, dtype=dtype, requires_grad=True)
    dropped = UniformDropout(0.2)(values)
    dropped.sum().backward()
    assert dropped.dtype == dtype and torch.equal(values.grad, dropped)
    assert set(dropped.tolist()) == {0.0, 1.25}
    assert (dropped == 0).float().mean() == pytest.approx(0.2, abs=0.01)  # five standard errors


def test_dropout_at_its_ends_is_torch_s():
    values = torch.randn(50)
    assert torch.equal(UniformDropout(0.0)(values), values)
    assert torch.equal(UniformDropout(0.5).eval()(values), values)
    assert torch.equal(UniformDropout(1.0)(values), torch.zeros(50))
