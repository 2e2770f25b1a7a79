"""What is observed of leaders and followers is what it says."""

import math

import pytest
import torch
from torch import nn

from brainage.errors import ShapeError
from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.observe import (
    feature_diversity,
    keep_workers,
    mean_by_role,
    predict_with,
    rank_workers,
    worker_accuracy,
    worker_activity,
)
from brainage.lfnn.targets import Classes
from brainage.lfnn.workers import WorkerHead

LABELS = torch.tensor([0, 1, 1, 0])
RIGHT = 4.0 * nn.functional.one_hot(LABELS, 2).float()


def make_stack() -> BlockStack:
    torch.manual_seed(0)
    hidden = WorkerHead((6,), 2, workers=3, reads="own", norm="none")
    output = WorkerHead((6,), 2, norm="none")
    bodies = [nn.Sequential(nn.Linear(5, 6), nn.ReLU()), nn.Sequential(nn.Identity())]
    return BlockStack([LocalBlock(bodies[0], hidden), LocalBlock(bodies[1], output)])


def test_leaders_are_those_with_the_smallest_loss_over_all_samples() -> None:
    outputs = torch.stack([-RIGHT, RIGHT, 0.1 * RIGHT], dim=1)
    leadership = rank_workers(outputs, LABELS, Classes(2), 2 / 3)
    assert leadership.leader_mask.tolist() == [False, True, True]
    assert leadership.best == 1


def test_accuracy_is_counted_for_each_worker() -> None:
    always_zero = torch.tensor([1.0, 0.0]).expand(4, 2)
    outputs = torch.stack([-RIGHT, RIGHT, always_zero], dim=1)
    assert worker_accuracy(outputs, LABELS).tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3, 3), (2, 4, 6)])
def test_only_the_groups_of_kept_workers_speak(shape: tuple[int, ...]) -> None:
    kept = keep_workers(torch.ones(shape), torch.tensor([True, False, True]))
    axis = 2 if len(shape) == 3 else 1
    by_channel = kept.movedim(axis, 0).flatten(1)
    assert by_channel.mean(dim=1).tolist() == [1, 1, 0, 0, 1, 1]


def test_all_workers_together_give_the_network_output() -> None:
    stack, inputs = make_stack(), torch.randn(4, 5)
    everyone = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(predict_with(stack, inputs, [everyone]), stack(inputs))


def test_silent_workers_change_nothing_downstream() -> None:
    stack, inputs = make_stack(), torch.randn(4, 5)
    leaders = torch.tensor([True, False, False])
    before = predict_with(stack, inputs, [leaders])
    with torch.no_grad():
        stack[0].body[0].bias[2:] += 1.0
    torch.testing.assert_close(predict_with(stack, inputs, [leaders]), before)


def test_masks_must_fit_the_network() -> None:
    with pytest.raises(ShapeError, match="expected 1 masks, got 0"):
        predict_with(make_stack(), torch.randn(4, 5), [])
    with pytest.raises(ShapeError, match="6 channels"):
        keep_workers(torch.ones(2, 6), torch.ones(4, dtype=torch.bool))


def test_activity_is_the_length_of_the_move() -> None:
    before = torch.zeros(5, 2, 2)
    after = before.clone()
    after[:, 1] = torch.tensor([3.0, 4.0])
    activity = worker_activity(before, after)
    assert activity.tolist() == [0.0, 5.0]
    assert mean_by_role(activity, torch.tensor([False, True])) == (5.0, 0.0)


def test_diversity_of_known_outputs() -> None:
    """One leader along x, two followers: one the same, one at a right angle, on every sample."""
    outputs = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]).repeat(3, 1, 1)
    found = feature_diversity(outputs, torch.tensor([True, False, False]))
    assert found.leader_follower_cosine == pytest.approx(0.5)
    assert found.followers_cosine == pytest.approx(0.0)
    assert found.shared_residual == pytest.approx(-0.25)
    assert found.leader_follower_distance == pytest.approx(math.sqrt(2) / 4)
    assert found.followers_distance == pytest.approx(math.sqrt(2) / 2)
    assert found.leader_variance == found.follower_variance == 0.0


def test_outputs_without_a_constant_part_vary_fully_at_any_scale() -> None:
    outputs = torch.tensor([[[1.0], [10.0]], [[-1.0], [-10.0]]])
    found = feature_diversity(outputs, torch.tensor([True, False]))
    assert (found.leader_variance, found.follower_variance) == (1.0, 1.0)


def test_pairs_that_do_not_exist_are_nan() -> None:
    found = feature_diversity(torch.randn(4, 3, 2), torch.ones(3, dtype=torch.bool))
    assert math.isnan(found.leader_follower_cosine) and math.isnan(found.follower_variance)


def test_distance_is_counted_in_both_lengths_and_variance_as_a_share_of_the_mean_square() -> None:
    outputs = torch.tensor([[[2.0, 0.0], [-1.0, 0.0]], [[4.0, 0.0], [-3.0, 0.0]]])
    found = feature_diversity(outputs, torch.tensor([True, False]))
    assert found.leader_follower_cosine == -1.0 and found.leader_follower_distance == 1.0
    # Means of squares 10 and 5 in the first class, variances 1 and 1; the second class is silent.
    assert found.leader_variance == pytest.approx(0.5 * 1 / 10)
    assert found.follower_variance == pytest.approx(0.5 * 1 / 5)
    assert math.isnan(found.followers_cosine) and math.isnan(found.followers_distance)


def test_silent_workers_are_no_way_from_each_other() -> None:
    found = feature_diversity(torch.zeros(2, 3, 2), torch.tensor([True, False, False]))
    assert found.leader_follower_distance == found.followers_distance == 0.0
    assert found.leader_follower_cosine == found.leader_variance == 0.0


def test_refusals_name_what_does_not_fit() -> None:
    with pytest.raises(ShapeError) as caught:
        keep_workers(torch.ones(2, 6), torch.ones(4, dtype=torch.bool))
    assert str(caught.value) == "features: 6 channels cannot be divided evenly among 4 workers."
    with pytest.raises(ShapeError) as caught:
        predict_with(make_stack(), torch.randn(4, 5), [])
    assert str(caught.value) == "kept: expected 1 masks, got 0."
