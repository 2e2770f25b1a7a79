"""Other ways to follow: isolated, and what each pulls a follower to."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage.lfnn import Classes, LocalNetwork, assert_isolated, localize
from brainage.lfnn.losses import follower_loss, select_leaders
from brainage.lfnn.rules import METHOD_RULES, StepSettings
from brainage.lfnn.workers import Head
from pipelines.study import followers

NAMES = ("DISTIL", "MOVES", "HEAD", "ABOVE", "GATE")
LABELS = torch.tensor([0, 1, 2, 0])
SETTINGS = StepSettings(Classes(3), leader_fraction=0.5)


def network(name: str) -> LocalNetwork:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    rule = METHOD_RULES[f"pipelines.study.followers:{name}"]
    head = Head("linear", workers=4)
    return localize(
        layers,
        blocks=3,
        target=Classes(3),
        example=images(),
        method=rule,
        head=head,
        leader_fraction=0.5,
    )


def images() -> torch.Tensor:
    return torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_crosses_a_block(name: str) -> None:
    assert_isolated(network(name), images(), LABELS)


def moment() -> followers.Moment:
    outputs = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    return followers.Moment(None, 0, outputs, LABELS, SETTINGS, images())


def pull(loss: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(loss, outputs)
    return gradient


def test_leaders_feel_no_follower_loss() -> None:
    for loss in (followers.distil, followers.move_alike):
        found = moment()
        gradient = pull(loss(found), found.outputs)
        assert gradient[found.leadership.leader_mask].abs().max() == 0
        assert gradient[~found.leadership.leader_mask].abs().min() > 0


def test_a_follower_makes_the_best_leader_s_move() -> None:
    found = moment()
    gradient = pull(followers.move_alike(found), found.outputs)
    own = pull(found.losses.sum(), found.outputs)
    count = (~found.leadership.leader_mask).sum()
    for sample, best in enumerate(found.leadership.best):
        for worker in (~found.leadership.leader_mask[sample]).nonzero().flatten():
            torch.testing.assert_close(gradient[sample, worker], own[sample, best] / count)


def test_distillation_keeps_the_label() -> None:
    found = moment()
    best = found.outputs[torch.arange(4), found.leadership.best].detach() / 2
    value = torch.zeros(())
    for sample, worker in (~found.leadership.leader_mask).nonzero():
        own = functional.log_softmax(found.outputs[sample, worker] / 2, dim=0)
        goal = functional.softmax(best[sample], dim=0)
        divergence = functional.kl_div(own, goal, reduction="sum")
        value = value + 0.5 * found.losses[sample, worker] + 0.5 * 4 * divergence
    expected = value / (~found.leadership.leader_mask).sum()
    torch.testing.assert_close(followers.distil(found), expected)


def test_a_goal_stands_for_the_best_leader() -> None:
    outputs = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    leadership = select_leaders(torch.tensor([[0.0, 1, 2], [0.0, 1, 2]]), 0.3)
    best = outputs[:, :1]
    for space in ("output_mean", "probability"):
        expected = follower_loss(outputs, leadership, space)
        torch.testing.assert_close(follower_loss(outputs, leadership, space, best), expected)
    assert follower_loss(outputs, leadership, "output_mean", best + 1) != expected


@pytest.mark.parametrize(("name", "follows"), [("HEAD", False), ("DISTIL", True)])
def test_features_follow_or_do_not(name: str, follows: bool) -> None:
    gradients = []
    for weight in (0.0, 1.0):
        net = network(name)
        block = net.stack[0]
        features = block.body(images())
        outputs = net.stack.read_out(0, features)
        settings = StepSettings(Classes(3), leader_fraction=0.5, follower_weight=weight)
        rule = METHOD_RULES[f"pipelines.study.followers:{name}"]
        loss = rule.hidden_loss(net.stack, 0, outputs, LABELS, settings, features)
        gradients.append(pull(loss, features))
    assert torch.equal(*gradients) != follows


def test_a_gate_learns_who_is_best_without_moving_features() -> None:
    net = network("GATE")
    features = net.stack[0].body(images())
    outputs = net.stack.read_out(0, features)
    settings = StepSettings(Classes(3), leader_fraction=0.25, leader_weight=0, follower_weight=0)
    rule = METHOD_RULES["pipelines.study.followers:GATE"]
    loss = rule.hidden_loss(net.stack, 0, outputs, LABELS, settings, features)
    loss.backward()
    assert net.stack[0].auxiliary.weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in net.stack[0].body.parameters())
