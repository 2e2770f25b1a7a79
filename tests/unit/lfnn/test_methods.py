"""Parts of methods that the reference gradients of `test_rules` do not reach."""

import pytest
import torch
from torch import nn

from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.methods.dfa import Feedback
from brainage.lfnn.methods.predsim import similarity_matrix, target_similarity
from brainage.lfnn.rules import METHOD_RULES
from brainage.lfnn.step import AuxiliaryRequest, StepSettings
from brainage.lfnn.targets import Ages, Classes


def test_feature_maps_are_compared_by_how_much_each_channel_varies():
    features = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0)).double()
    deviations = features.flatten(2).std(dim=2)
    centred = deviations - deviations.mean(dim=1, keepdim=True)
    expected = functional_cosines(centred)
    torch.testing.assert_close(similarity_matrix(features), expected)
    single = features[:, :, :1, :1]
    flat = single.flatten(1)
    torch.testing.assert_close(
        similarity_matrix(single), functional_cosines(flat - flat.mean(dim=1, keepdim=True))
    )


def test_tokens_are_compared_by_how_much_each_of_their_channels_varies_over_them():
    torch.manual_seed(0)
    rule, features, labels = (
        METHOD_RULES["predsim"],
        torch.randn(4, 6, 5),
        torch.tensor([0, 1, 1, 2]),
    )
    block = LocalBlock(
        nn.Sequential(), None, rule.build_auxiliary(AuxiliaryRequest((6, 5), 3, 1.0))
    )
    outputs, settings = torch.randn(4, 2, 3), StepSettings(Classes(3))
    found = rule.hidden_loss(BlockStack([block]), 0, outputs, labels, settings, features)
    deviations = (features @ block.auxiliary.weight.T).std(dim=1)
    similarity = functional_cosines(deviations - deviations.mean(dim=1, keepdim=True))
    wanted = target_similarity(labels, settings, similarity)
    prediction = settings.target.loss(outputs, labels).mean()
    matching = (similarity - wanted).square().mean()
    torch.testing.assert_close(found, 0.01 * prediction + 0.99 * matching)


def functional_cosines(rows: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.stack([a @ b / (a.norm() * b.norm()) for b in rows]) for a in rows])


def test_ages_are_as_alike_as_their_distance_in_deviations_of_the_batch():
    settings = StepSettings(Ages(20.0, 80.0, 31))
    ages, like = torch.tensor([40, 60]), torch.zeros((), dtype=torch.float64)
    similarity = target_similarity(ages, settings, like)  # a deviation of 10: they are 2 apart
    expected = torch.tensor([[1, -2.0], [-2.0, 1]]).double()
    expected = torch.where(expected == 1, expected, expected.exp())
    torch.testing.assert_close(similarity, expected)
    same = target_similarity(torch.tensor([50, 50]), settings, like)
    assert same.tolist() == [[1, 1], [1, 1]]


def test_labels_of_one_class_are_alike():
    settings, like = StepSettings(Classes(3)), torch.zeros((), dtype=torch.float64)
    similarity = target_similarity(torch.tensor([0, 2, 2]), settings, like)
    assert similarity.dtype == torch.float64
    expected = torch.tensor([[1, -0.5, -0.5], [-0.5, 1, 1], [-0.5, 1, 1]]).double()
    torch.testing.assert_close(similarity, expected)


def test_feedback_keeps_the_length_of_the_error_in_expectation():
    torch.manual_seed(0)
    feedback = Feedback((8, 5, 5), 40)
    assert feedback.weight.shape == (40, 8, 5, 5)
    assert feedback.weight.std().item() == pytest.approx(200**-0.5, rel=0.05)
    error = torch.randn(3, 40, dtype=torch.float64)
    given = feedback(error)
    assert given.shape == (3, 8, 5, 5) and given.dtype == torch.float64
    torch.testing.assert_close(given[1, 2, 3, 4], error[1] @ feedback.weight[:, 2, 3, 4].double())


def test_spreads_of_several_distributions_are_their_own():
    bins = Ages(20.0, 80.0, 3)
    outputs = torch.tensor([[[0.0, -50, 0], [-50, 0, 0]], [[0, 0, 0], [-50, 0, -50]]]).double()
    expected = torch.tensor([[30.0, 15.0], [30 * (2 / 3) ** 0.5, 0.0]]).double()
    torch.testing.assert_close(bins.spread(outputs), expected, atol=1e-6, rtol=0)


def test_the_median_lies_within_its_bin_by_a_straight_line():
    bins = Ages(20.0, 80.0, 31)
    probability = torch.full((2, 31), 1e-12).double()
    probability[0, 10], probability[0, 11] = 0.25, 0.75  # bins [39, 41] and [41, 43]
    probability[1, 30] = 1.0
    medians = bins.median(probability.log())
    torch.testing.assert_close(medians, torch.tensor([41 + 2 / 3, 80.0]).double())
    assert bins.median(torch.zeros(31)).item() == pytest.approx(50.0)
