"""Turns of blocks, told by the validation losses alone."""

import math

import pytest
import torch

from brainage.lfnn.leadership import AdaptiveLeadership, indistinguishable_share
from brainage.lfnn.rules import METHOD_RULES, StepSettings
from brainage.lfnn.schedules import (
    Convergence,
    Turn,
    block_features,
    current_turn,
    divide_epochs,
    frozen_blocks,
    resting_blocks,
    step_one_block,
    turn_rate,
)
from brainage.model.build import build_model, build_target
from tests.small import make_config, random_batch


def test_the_first_block_gets_half_of_what_others_get_and_nothing_is_lost():
    assert divide_epochs(38, 4) == [5, 11, 11, 11]
    assert divide_epochs(38, 4, (6, 8, 12)) == [6, 8, 12, 12]
    assert all(sum(divide_epochs(n, 3)) == n for n in range(5, 40))


@pytest.mark.parametrize(("epochs", "freeze_after"), [(3, None), (26, (6, 8, 12)), (30, (6, 8))])
def test_a_block_without_a_turn_is_refused(epochs, freeze_after):
    with pytest.raises(ValueError, match="each of 4 blocks a turn"):
        divide_epochs(epochs, 4, freeze_after)


def test_turns_follow_their_budgets_where_no_convergence_is_watched():
    turns = [current_turn([1.0] * done, [2, 3], None) for done in range(6)]
    one, two = Turn(0, 1, 2, 0), Turn(1, 3, 5, 0)
    assert turns == [one, one, two, two, two, None]


def test_a_stalled_block_anneals_at_once_and_its_epochs_are_saved():
    rule, losses = Convergence(2), [3.0, 2.0, 2.1, 2.2]  # stalls after epoch 4 of a held 5
    assert current_turn(losses[:3], [10, 4], rule) == Turn(0, 1, 10, 5)
    assert current_turn(losses, [10, 4], rule) == Turn(0, 1, 9, 4)
    # What happens while the rate falls moves nothing.
    assert current_turn([*losses, 9.0, 9.0, 9.0, 9.0], [10, 4], rule) == Turn(0, 1, 9, 4)
    assert current_turn([*losses, 1.0, 1.0, 1.0, 1.0, 1.0], [10, 4], rule) == Turn(1, 10, 13, 2)


def test_a_loss_that_stalls_only_while_the_rate_falls_leaves_the_turn_as_long_as_it_was():
    rule, losses = Convergence(2), [5.0, 4.0, 3.0, 2.0, 1.0]  # the rate is held for 5 of 10
    for later in ([1.1, 1.2], [1.1, 1.2, 1.3]):
        assert current_turn([*losses, *later], [10, 4], rule) == Turn(0, 1, 10, 5)
    second = [*losses, *[0.0] * 5, 3.0, 3.1, 3.2]  # of a held 4: its first epoch is its best
    assert current_turn(second, [10, 8], rule) == Turn(1, 11, 17, 3)


def test_small_improvements_do_not_count():
    losses = [1.0, 0.99, 0.98, 0.5]
    assert Convergence(2, 0.05).stalls_at(losses) == 3
    assert Convergence(2, 0.0).stalls_at(losses) is None


def test_the_rate_warms_up_holds_and_falls_to_zero():
    turn = Turn(1, 4, 13, 5)
    rates = [turn_rate(turn, 4 + n // 10, n % 10, 10, 1) for n in range(100)]
    assert rates[0] == 0.1 and rates[10:51] == [1.0] * 41
    assert sorted(rates[50:], reverse=True) == rates[50:] and rates[-1] < 0.01


def test_the_fall_is_half_a_cosine_and_a_warm_up_at_most_half_of_the_turn():
    turn = Turn(0, 1, 10, 5)
    rates = [turn_rate(turn, epoch, 0, 1, 0) for epoch in range(1, 11)]
    assert rates[:6] == [1.0] * 6
    assert rates[6:] == pytest.approx([0.5 * (1 + math.cos(math.pi * n / 5)) for n in range(1, 5)])
    assert [turn_rate(turn, epoch, 0, 1, 99) for epoch in (1, 3, 5)] == [0.2, 0.6, 1.0]
    assert turn_rate(Turn(0, 1, 10, 10), 10, 0, 1, 0) == 1.0


def test_equal_losses_stall_and_shares_of_negative_losses_are_taken_from_their_size():
    assert Convergence(1).stalls_at([1.0, 1.0]) == 2
    assert Convergence(1, 0.05).stalls_at([-1.0, -1.04]) == 2
    assert Convergence(1, 0.05).stalls_at([-1.0, -1.06]) is None


def test_a_turn_has_an_epoch_at_least_and_falls_in_it():
    assert divide_epochs(4, 4, (1, 1, 1)) == [1, 1, 1, 1]
    assert current_turn([], [1, 3], Convergence(2)) == Turn(0, 1, 1, 0)
    assert current_turn([1.0], [1, 3], Convergence(2)) == Turn(1, 2, 4, 2)


def test_a_block_learns_in_its_last_epoch_and_rests_after_it():
    assert frozen_blocks(2, (2, 5)) == frozenset()
    assert frozen_blocks(3, (2, 5)) == {0} and frozen_blocks(6, (2, 5)) == {0, 1}
    assert frozen_blocks(9, None) == frozenset()
    assert resting_blocks(1, 2, 3, None, (2, 3)) == {1}


def test_leadership_counts_who_cannot_be_told_from_the_best():
    assert indistinguishable_share(torch.tensor([[0.0, 0, 1], [0, 0, 3]])) == pytest.approx(2 / 3)
    # Mean difference 1, standard error 1.5: not to be told apart.
    assert indistinguishable_share(torch.tensor([[0.0, -0.5], [0, 2.5]])) == 1.0
    assert indistinguishable_share(torch.tensor([[0.0, 9.0]])) == 1.0
    leadership = AdaptiveLeadership()
    assert leadership.leader_fraction.dtype == torch.float64 and leadership.leader_fraction == 1
    # Its start at 1 has no weight.
    assert leadership.update(torch.tensor([[0.0, 9], [0, 9]])) == pytest.approx(0.5)
    assert leadership.update(torch.tensor([[0.0, 9], [0, 9]])) == pytest.approx(0.5)


def test_blocks_rest_by_frequency_and_for_good():
    assert resting_blocks(1, 0, 4, (2, 2, 9), (3, 2, 1)) == frozenset()
    assert resting_blocks(1, 1, 4, (2, 2, 9), (3, 2, 1)) == {0, 1}
    assert resting_blocks(3, 0, 4, (2, 2, 9), (3, 2, 1)) == {0, 1}


def settings_of(config, **more):
    return StepSettings(build_target(config.target), config.learning.leader_fraction, **more)


@pytest.mark.parametrize("method", ["lfnn_l", "predsim", "infopro", "movement"])
def test_one_block_alone_learns_what_it_learns_among_all(method):
    config = make_config("cnn3d_light", method=method)
    volumes, ages = random_batch(config)
    rule, whole, alone = METHOD_RULES[method], build_model(config), build_model(config)
    losses = rule.step(whole, volumes, ages, settings_of(config)).losses
    features = alone[0].body(volumes).detach()
    result = step_one_block(alone, 1, features, ages, settings_of(config), rule.hidden_loss)
    assert torch.equal(result.losses[0], losses[1])
    for name, weight in alone.named_parameters():
        expected = whole.get_parameter(name).grad if name.startswith("blocks.1.") else None
        assert expected is weight.grad is None or torch.equal(expected, weight.grad)


def test_a_resting_block_has_no_gradient_and_changes_nothing_behind_it():
    config = make_config("cnn3d_light")
    volumes, ages = random_batch(config)
    plain, rested = build_model(config), build_model(config)
    step = METHOD_RULES["lfnn_l"].step
    step(plain, volumes, ages, settings_of(config))
    result = step(rested, volumes, ages, settings_of(config, resting=frozenset({1})))
    assert len(result.losses) == 2
    assert all(p.grad is None for p in rested[1].parameters())
    for index in (0, 2):
        pairs = zip(plain[index].parameters(), rested[index].parameters(), strict=True)
        assert all(torch.equal(a.grad, b.grad) for a, b in pairs)


def test_features_of_a_frozen_block_leave_its_statistics_alone():
    config = make_config("cnn3d_light")
    volumes, _ = random_batch(config)
    model = build_model(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = block_features(model, 0, volumes, settings_of(config))
    assert not features.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
