"""Decoder, pair weights and distances of the methods that look at a block's input."""

import pytest
import torch

from brainage.lfnn.methods.infopro import Decoder
from brainage.lfnn.methods.infopro_contrast import (
    contrastive_loss,
    mean_of_paired,
    pair_weights,
)
from brainage.lfnn.methods.movement import movement
from brainage.lfnn.rules import METHOD_RULES
from brainage.lfnn.targets import Ages, Classes

KINDS = [(5,), (7, 5), (5, 4, 6), (5, 4, 6, 4)]


@pytest.mark.parametrize("given", [*KINDS, (3, 9, 12), (2, 8, 9, 8)])
@pytest.mark.parametrize("shape", KINDS)
def test_any_input_is_rebuilt_from_any_features(shape, given):
    if len(shape) > 2 and len(given) > 2 and len(shape) != len(given):
        pytest.skip("images do not become volumes")
    torch.manual_seed(0)
    features = torch.randn(3, *shape, requires_grad=True)
    lost = Decoder(shape, given)(features, torch.randn(3, *given))
    lost.backward()
    assert lost.ndim == 0 and features.grad.abs().sum() > 0


def test_what_is_lost_is_a_share_of_the_input_s_variance():
    decoder = Decoder((5,), (4,))
    torch.nn.init.zeros_(decoder.layers[2].weight)
    torch.nn.init.zeros_(decoder.layers[2].bias)
    given = 7.0 * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert decoder(torch.randn(1, 5), given).item() == pytest.approx(1.0)


def test_positives_are_samples_of_a_class_or_people_of_an_age():
    labels = pair_weights(torch.tensor([0, 1, 0]), Classes(2))
    assert labels.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    ages = pair_weights(torch.tensor([40.0, 45.0, 90.0]), Ages(20.0, 90.0))
    assert ages[0, 1].item() == pytest.approx(0.6065, abs=1e-4)  # exp(-1/2), five years apart
    assert ages[0, 2] < 1e-6 and ages.diagonal().sum() == 0


def test_mean_that_asks_nothing_of_the_device_is_that_of_the_samples_with_positives():
    losses, total = torch.tensor([3.0, 0.0, 8.0], requires_grad=True), torch.tensor([1.0, 0.0, 2.0])
    mean = mean_of_paired(losses, total)
    mean.backward()
    assert mean.item() == pytest.approx(3.5)
    assert losses.grad.tolist() == pytest.approx([0.5, 0.0, 0.25])
    assert mean_of_paired(torch.zeros(2), torch.zeros(2)).item() == 0.0


def test_a_batch_without_positives_has_a_loss_of_zero_and_a_gradient():
    projected = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(projected, torch.zeros(3, 3))
    loss.backward()
    assert loss.item() == 0.0 and projected.grad is not None


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (2, 4, 6, 6), (2, 4, 4, 6, 4)])
def test_a_block_that_does_nothing_moves_nothing(shape):
    features = torch.randn(shape)
    assert movement(features, features) == 0
    assert movement(features, features + 2.0).item() == pytest.approx(4.0)


def test_a_block_that_halves_the_grid_is_compared_with_the_pooled_padded_input():
    given = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    features = torch.stack([pooled, torch.full((2, 2), 3.0)])[None]
    assert movement(given, features).item() == pytest.approx(9.0 / 2)


def test_methods_tell_what_a_block_learns_from():
    families = {name: rule.family for name, rule in METHOD_RULES.items()}
    assert families["bp"] == "end to end" and families["dfa"] == "feedback"
    assert families["lfnn"] == families["deep_supervision"] == "deep supervision"
    local = {name for name, rule in METHOD_RULES.items() if rule.is_local}
    assert local == {name for name, family in families.items() if family == "isolated"}
