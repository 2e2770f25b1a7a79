"""Winograd's convolution: the numbers and gradients of the plain one, where it is faster."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage.networks import build_stages
from brainage.networks._winograd import convolve_winograd, gains

ARGUMENTS = {"channels": [3, 4], "kernel_size": 6}


@pytest.mark.parametrize("outputs", [3, 5])
@pytest.mark.parametrize("planes", [10, 11, 17])
def test_numbers_and_gradients_are_those_of_the_plain_convolution(planes, outputs):
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, planes, 9, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 6, 6, 6, dtype=torch.float64, requires_grad=True)
    given = functional.conv3d(inputs, weight)
    wanted = [given, *torch.autograd.grad(given.sin().sum(), [inputs, weight])]
    made = convolve_winograd(inputs, weight, outputs)
    found = [made, *torch.autograd.grad(made.sin().sum(), [inputs, weight])]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_rounding_in_single_precision_is_small():
    torch.manual_seed(0)
    inputs, weight = torch.randn(2, 16, 20, 12, 12), torch.randn(32, 16, 6, 6, 6)
    exact = functional.conv3d(inputs.double(), weight.double())
    error = (convolve_winograd(inputs, weight) - exact).abs().max() / exact.abs().max()
    assert error < 5e-5


@pytest.mark.parametrize(
    ("channels", "kernel", "planes", "expected"),
    [(16, 6, 40, True), (1, 6, 40, False), (16, 6, 7, False), (16, 4, 40, False)],
)
def test_shapes_decide(channels, kernel, planes, expected):
    convolution = nn.Conv3d(channels, 2, kernel)
    assert gains(torch.zeros(1, channels, planes, 8, 8), convolution) is expected


def test_half_precision_is_left_to_the_plain_convolution():
    convolution, inputs = nn.Conv3d(16, 2, 6), torch.zeros(1, 16, 40, 8, 8)
    assert not gains(inputs.bfloat16(), convolution)
    with torch.autocast("cpu", torch.bfloat16):
        assert not gains(inputs, convolution)


def test_a_network_computes_the_same_with_the_option_and_is_untouched_without(monkeypatch):
    calls = []

    def counted(*given):
        calls.append(given)
        return convolve_winograd(*given)

    monkeypatch.setattr("brainage.networks._slabs.convolve_winograd", counted)

    def run(**option):
        torch.manual_seed(0)
        stages = build_stages("usc_cnn3d", 1, (48, 30, 30), ARGUMENTS | option).values()
        features = torch.randn(2, 1, 48, 30, 30)
        for stage in stages:
            features = stage.eval()(features)
        return features, len(calls)

    plain, without = run()
    found, with_it = run(winograd=True)
    assert (without, with_it) == (0, 1)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)
