"""What the steps of all methods share: contexts, recomputing, stretches of blocks."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.rules import METHOD_RULES
from brainage.lfnn.schedules import block_features
from brainage.lfnn.step import AuxiliaryRequest, StepSettings, hidden_loss, step_blocks
from brainage.lfnn.targets import Classes
from brainage.lfnn.workers import WorkerHead

SETTINGS = StepSettings(Classes(3), leader_fraction=0.5)
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
LAST_TURN = 0.9


def make_stack(method: str = "lfnn_l") -> BlockStack:
    torch.manual_seed(0)
    rule, blocks = METHOD_RULES[method], []
    for index, fan_in in enumerate([5, 6, 6]):
        body = nn.Sequential(nn.Linear(fan_in, 6), nn.BatchNorm1d(6, momentum=0.3), nn.Tanh())
        head = WorkerHead((6,), 3, workers=1 if index == 2 else 4, norm="none")
        blocks.append(LocalBlock(body, head if rule.has_hidden_heads or index == 2 else None))
        if rule.build_auxiliary is not None and index < 2:
            blocks[-1].auxiliary = rule.build_auxiliary(AuxiliaryRequest((6,), 3, 0.5, (fan_in,)))
    return BlockStack(blocks)


def make_inputs() -> torch.Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


def gradients(stack: BlockStack) -> dict[str, torch.Tensor | None]:
    return {name: weight.grad for name, weight in stack.named_parameters()}


@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_recomputing_runs_blocks_twice_to_the_same_gradients_and_statistics(method):
    plain, again, runs = make_stack(method), make_stack(method), []
    for block in again.blocks:
        block.body[0].register_forward_pre_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    trained = 1 if method == "greedy" else 3
    expected = METHOD_RULES[method].step(plain, make_inputs(), LABELS, SETTINGS)
    result = METHOD_RULES[method].step(
        again, make_inputs(), LABELS, replace(SETTINGS, recomputes=True)
    )
    assert runs == [True] * 2 * trained and torch.equal(result.output, expected.output)
    torch.testing.assert_close(gradients(again), gradients(plain))
    for one, other in zip(plain.blocks, again.blocks, strict=True):
        torch.testing.assert_close(other.body[1].running_mean, one.body[1].running_mean)
        torch.testing.assert_close(other.body[1].running_var, one.body[1].running_var)
        assert other.body[1].momentum == 0.3


@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_networks_run_in_half_precision_and_losses_do_not(method):
    half = replace(
        SETTINGS, autocast=lambda: torch.autocast("cpu", torch.bfloat16), progress=LAST_TURN
    )
    result = METHOD_RULES[method].step(make_stack(method), make_inputs(), LABELS, half)
    assert result.output.dtype == torch.bfloat16
    assert {loss.dtype for loss in result.losses} == {torch.float32}
    last = functional.cross_entropy(result.output.float(), LABELS)
    torch.testing.assert_close(result.losses[-1], last)


def test_a_resting_or_frozen_block_runs_in_half_precision_too():
    half = replace(SETTINGS, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    bodies = [nn.Sequential(nn.Linear(5, 6)), nn.Sequential(nn.Identity())]
    stack = BlockStack([LocalBlock(body, WorkerHead((6,), 3, norm="none")) for body in bodies])
    assert block_features(stack, 0, make_inputs(), half).dtype == torch.bfloat16
    handed = []
    resting = replace(half, resting=frozenset({0}))
    arguments = (make_inputs(), LABELS, resting, hidden_loss, handed.append)
    step_blocks(stack, range(1), *arguments)
    assert handed[0].dtype == torch.bfloat16 and not handed[0].requires_grad


def test_a_stretch_of_blocks_hands_on_what_the_next_one_works_on_before_it_learns():
    whole, parts, events = make_stack(), make_stack(), []

    def hand_on(features):
        events.append(features)

    def loss_of_hidden(stack, block_index, *rest):
        events.append(block_index)
        return hidden_loss(stack, block_index, *rest)

    expected = METHOD_RULES["lfnn_l"].step(whole, make_inputs(), LABELS, SETTINGS)
    arguments = (LABELS, SETTINGS, loss_of_hidden)
    first = step_blocks(parts, range(2), make_inputs(), *arguments, hand_on)
    assert events[0] == 0 and events[2] == 1 and len(events) == 3
    assert not events[1].requires_grad and first.output.shape == (6, 4, 3)
    last = step_blocks(parts, range(2, 3), events[1], *arguments)
    assert (*first.losses, *last.losses) == expected.losses
    assert torch.equal(last.output, expected.output)
    torch.testing.assert_close(gradients(parts), gradients(whole))


def test_a_step_weighs_leaders_and_followers_alike_and_all_lead_unless_it_is_told_otherwise():
    stack, outputs = make_stack(), torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(2))
    target = Classes(3)
    everyone = hidden_loss(stack, 0, outputs, LABELS, StepSettings(target))
    torch.testing.assert_close(everyone, target.loss(outputs, LABELS).mean())
    half = hidden_loss(stack, 0, outputs, LABELS, SETTINGS)
    followers_only = replace(SETTINGS, leader_weight=0.0)
    leaders_only = replace(SETTINGS, follower_weight=0.0)
    parts = [hidden_loss(stack, 0, outputs, LABELS, s) for s in (followers_only, leaders_only)]
    torch.testing.assert_close(half, sum(parts))
    bounded = replace(followers_only, follower_space="probability")
    assert hidden_loss(stack, 0, outputs, LABELS, bounded) < parts[0]
    own = hidden_loss(stack, 0, outputs, LABELS, replace(leaders_only, selection="per_sample"))
    assert own < parts[1]
