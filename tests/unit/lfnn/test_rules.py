"""Each method against a reference written by hand, and for what it may and may not touch."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.losses import ClassTarget
from brainage.lfnn.rules import RULES, StepSettings
from brainage.lfnn.workers import WorkerHead

TARGET = ClassTarget(3)
SETTINGS = StepSettings(target=TARGET, leader_fraction=0.5, leader_weight=0.7, follower_weight=1.3)
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def make_stack(hidden_heads: bool = True) -> BlockStack:
    torch.manual_seed(0)
    blocks = []
    for index, (fan_in, fan_out) in enumerate([(5, 6), (6, 4), (4, 4)]):
        head = WorkerHead((fan_out,), 3, workers=1 if index == 2 else 4, norm="none")
        body = nn.Sequential(nn.Linear(fan_in, fan_out), nn.Tanh())
        blocks.append(LocalBlock(body, head if hidden_heads or index == 2 else None))
    return BlockStack(blocks).double()


def make_inputs() -> torch.Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).double()


def gradients(module: nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def forward_by_hand(stack: BlockStack, detach: bool) -> list[torch.Tensor]:
    """Worker outputs of every block, from the bare weights."""
    features, outputs = make_inputs(), []
    for block in stack.blocks:
        linear = block.body[0]
        features = features.detach() if detach else features
        features = torch.tanh(features @ linear.weight.T + linear.bias)
        head = block.head
        outputs.append(torch.einsum("bf,wcf->bwc", features, head.weight) + head.bias)
    return outputs


def hidden_loss_by_hand(outputs: torch.Tensor, leaders: int) -> torch.Tensor:
    workers = outputs.shape[1]
    losses = torch.stack([functional.cross_entropy(outputs[:, w], LABELS) for w in range(workers)])
    order = losses.argsort().tolist()
    leading = losses[order[:leaders]].mean()
    best = outputs[:, order[0]].detach()
    followers = [((outputs[:, w] - best) ** 2).sum(1).mean() for w in order[leaders:]]
    following = torch.stack(followers).mean() if followers else torch.zeros(())
    return SETTINGS.leader_weight * leading + SETTINGS.follower_weight * following


def reference_gradients(method: str) -> list[torch.Tensor]:
    stack = make_stack()
    outputs = forward_by_hand(stack, detach=method == "lfnn_l")
    total = functional.cross_entropy(outputs[-1][:, 0], LABELS)
    if method != "bp":
        leaders = 4 if method == "deep_supervision" else 2
        total = total + sum(hidden_loss_by_hand(hidden, leaders) for hidden in outputs[:-1])
    total.backward()
    return gradients(stack)


@pytest.mark.parametrize("method", ["bp", "lfnn", "lfnn_l", "deep_supervision"])
def test_gradients_equal_the_hand_written_reference(method):
    stack = make_stack()
    RULES[method](stack, make_inputs(), LABELS, SETTINGS)
    for got, expected in zip(gradients(stack), reference_gradients(method), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", ["lfnn", "lfnn_l", "deep_supervision"])
def test_a_step_reports_one_finite_loss_for_each_block(method):
    result = RULES[method](make_stack(), make_inputs(), LABELS, SETTINGS)
    assert len(result.losses) == 3
    assert all(torch.isfinite(loss) and not loss.requires_grad for loss in result.losses)


@pytest.mark.parametrize("method", list(RULES))
def test_a_step_moves_no_weight(method):
    stack = make_stack(hidden_heads=method != "bp")
    before = [p.clone() for p in stack.parameters()]
    RULES[method](stack, make_inputs(), LABELS, SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(before, stack.parameters(), strict=True))


@pytest.mark.parametrize("method", list(RULES))
def test_a_step_returns_the_networks_output(method):
    stack = make_stack(hidden_heads=method != "bp")
    result = RULES[method](stack, make_inputs(), LABELS, SETTINGS)
    torch.testing.assert_close(result.output, stack(make_inputs()).detach())


def test_bp_trains_bodies_without_hidden_heads():
    stack = make_stack(hidden_heads=False)
    RULES["bp"](stack, make_inputs(), LABELS, SETTINGS)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(stack))
