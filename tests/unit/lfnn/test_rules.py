"""Each method against a reference written by hand, and for what it may and may not touch."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.leadership import AdaptiveLeadership, indistinguishable_share
from brainage.lfnn.methods.greedy import active_block
from brainage.lfnn.rules import METHOD_RULES, StepSettings
from brainage.lfnn.step import AuxiliaryRequest
from brainage.lfnn.targets import Classes
from brainage.lfnn.workers import WorkerHead

TARGET = Classes(3)
SETTINGS = StepSettings(target=TARGET, leader_fraction=0.5, leader_weight=0.7, follower_weight=1.3)
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def make_stack(method: str = "bp", leader_fraction: float | str = 0.5) -> BlockStack:
    torch.manual_seed(0)
    rule, blocks = METHOD_RULES[method], []
    for index, (fan_in, fan_out) in enumerate([(5, 6), (6, 4), (4, 4)]):
        head = WorkerHead((fan_out,), 3, workers=1 if index == 2 else 4, norm="none")
        body = nn.Sequential(nn.Linear(fan_in, fan_out), nn.Tanh())
        blocks.append(LocalBlock(body, head if rule.has_hidden_heads or index == 2 else None))
    if rule.build_auxiliary is not None:
        for block, width, given in zip(blocks[:-1], (6, 4), (5, 6), strict=True):
            request = AuxiliaryRequest((width,), 3, leader_fraction, (given,))
            block.auxiliary = rule.build_auxiliary(request)
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
    followers = [((outputs[:, w] - best) ** 2).mean() for w in order[leaders:]]
    following = torch.stack(followers).mean() if followers else torch.zeros(())
    return SETTINGS.leader_weight * leading + SETTINGS.follower_weight * following


def reference_gradients(method: str) -> list[torch.Tensor]:
    stack = make_stack(method)
    if method == "bp":
        functional.cross_entropy(stack(make_inputs()), LABELS).backward()
        return gradients(stack)
    outputs = forward_by_hand(stack, detach=method == "lfnn_l")
    total = functional.cross_entropy(outputs[-1][:, 0], LABELS)
    leaders = 4 if method == "deep_supervision" else 2
    total = total + sum(hidden_loss_by_hand(hidden, leaders) for hidden in outputs[:-1])
    total.backward()
    return gradients(stack)


@pytest.mark.parametrize("method", ["bp", "lfnn", "lfnn_l", "deep_supervision"])
def test_gradients_equal_the_hand_written_reference(method):
    check_gradients(method, reference_gradients(method))


def check_gradients(method: str, expected: list[torch.Tensor], progress: float = 0.0) -> None:
    stack = make_stack(method)
    METHOD_RULES[method].step(stack, make_inputs(), LABELS, replace(SETTINGS, progress=progress))
    for got, wanted in zip(gradients(stack), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)


def features_by_hand(stack: BlockStack) -> list[torch.Tensor]:
    """Each block's output, from detached input."""
    features, block_features = make_inputs(), []
    for block in stack.blocks:
        linear = block.body[0]
        features = torch.tanh(features.detach() @ linear.weight.T + linear.bias)
        block_features.append(features)
    return block_features


def cosines_by_hand(rows: torch.Tensor) -> torch.Tensor:
    centred = [row - row.mean() for row in rows]
    return torch.stack(
        [torch.stack([a @ b / (a.norm() * b.norm()) for b in centred]) for a in centred]
    )


def test_predsim_equals_the_hand_written_reference():
    stack = make_stack("predsim")
    outputs, features = forward_by_hand(stack, detach=True), features_by_hand(stack)
    labels = cosines_by_hand(functional.one_hot(LABELS, 3).double())
    for index in (0, 1):
        # `features` and `outputs` come from two graphs; their gradients add up in the weights.
        similarity = cosines_by_hand(features[index] @ stack[index].auxiliary.weight.T)
        matching = ((similarity - labels) ** 2).mean()
        workers = [functional.cross_entropy(outputs[index][:, w], LABELS) for w in range(4)]
        (0.01 * torch.stack(workers).mean() + 0.99 * matching).backward()
    functional.cross_entropy(outputs[2][:, 0], LABELS).backward()
    check_gradients("predsim", gradients(stack))


def test_mono_forward_equals_the_hand_written_reference():
    stack = make_stack("mono_forward")
    for outputs in forward_by_hand(stack, detach=True):
        workers = [functional.cross_entropy(outputs[:, w], LABELS) for w in range(outputs.shape[1])]
        torch.stack(workers).mean().backward()
    check_gradients("mono_forward", gradients(stack))


def test_movement_equals_the_hand_written_reference():
    stack = make_stack("movement")
    outputs, features = forward_by_hand(stack, detach=True), features_by_hand(stack)
    given = [make_inputs(), *(each.detach() for each in features)]
    for index in (0, 1):
        moved = torch.zeros_like(features[index])
        width = min(features[index].shape[1], given[index].shape[1])
        moved[:, :width] = given[index][:, :width]
        movement = ((features[index] - moved) ** 2).mean()
        (hidden_loss_by_hand(outputs[index], 2) + movement).backward()
    functional.cross_entropy(outputs[2][:, 0], LABELS).backward()
    check_gradients("movement", gradients(stack))


def rebuilt_by_hand(decoder: nn.Module, features: torch.Tensor, given: torch.Tensor):
    first, _, last = decoder.layers
    rebuilt = torch.relu(features @ first.weight.T + first.bias) @ last.weight.T + last.bias
    return ((rebuilt - given) ** 2).mean() / ((given - given.mean()) ** 2).mean()


def test_infopro_equals_the_hand_written_reference():
    stack = make_stack("infopro")
    outputs, features = forward_by_hand(stack, detach=True), features_by_hand(stack)
    given = [make_inputs(), features[0].detach()]
    for index, weight in ((0, 1.0), (1, 0.5)):
        workers = [functional.cross_entropy(outputs[index][:, w], LABELS) for w in range(4)]
        lost = rebuilt_by_hand(stack[index].auxiliary, features[index], given[index])
        (torch.stack(workers).mean() + weight * lost).backward()
    functional.cross_entropy(outputs[2][:, 0], LABELS).backward()
    check_gradients("infopro", gradients(stack))


def contrast_by_hand(projected: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sample by sample, positive by positive."""
    cosines, total = projected / projected.norm(dim=1, keepdim=True), []
    for i in range(len(projected)):
        others = [j for j in range(len(projected)) if j != i]
        similar = {j: (cosines[i] @ cosines[j] / 0.07).exp() for j in others}
        log_shares = {j: (similar[j] / sum(similar.values())).log() for j in others}
        weight = sum(weights[i, j] for j in others)
        total.append(-sum(weights[i, j] * log_shares[j] for j in others) / weight)
    return torch.stack(total).mean()


def test_contrastive_infopro_equals_the_hand_written_reference():
    stack = make_stack("infopro_contrast")
    features = features_by_hand(stack)
    given, same = [make_inputs(), features[0].detach()], LABELS[:, None] == LABELS
    for index, weight in ((0, 1.0), (1, 0.5)):
        parts, head = stack[index].auxiliary, stack[index].head
        first, _, last = parts.projection
        projected = torch.relu(features[index] @ first.weight.T + first.bias)
        contrast = contrast_by_hand(projected @ last.weight.T + last.bias, same.double())
        read = torch.einsum("bf,wcf->bwc", features[index].detach(), head.weight) + head.bias
        workers = [functional.cross_entropy(read[:, w], LABELS) for w in range(4)]
        lost = rebuilt_by_hand(parts.decoder, features[index], given[index])
        (contrast + torch.stack(workers).mean() + weight * lost).backward()
    output = stack.read_out(2, features[2])[:, 0]
    functional.cross_entropy(output, LABELS).backward()
    check_gradients("infopro_contrast", gradients(stack))


def test_dfa_equals_the_hand_written_reference():
    stack = make_stack("dfa")
    features = features_by_hand(stack)
    output = stack.read_out(2, features[2])[:, 0]
    functional.cross_entropy(output, LABELS).backward()
    one_hot = functional.one_hot(LABELS, 3)
    error = (output.detach().softmax(1) - one_hot) / len(LABELS)
    for index in (0, 1):
        (features[index] * (error @ stack[index].auxiliary.weight)).sum().backward()
    check_gradients("dfa", gradients(stack))


@pytest.mark.parametrize(("progress", "active"), [(0.0, 0), (0.34, 1), (0.99, 2)])
def test_greedy_equals_the_hand_written_reference_and_trains_one_block_only(progress, active):
    stack = make_stack("greedy")
    outputs = forward_by_hand(stack, detach=True)[active]
    workers = [functional.cross_entropy(outputs[:, w], LABELS) for w in range(outputs.shape[1])]
    weight = 1.0 if active == 2 else SETTINGS.leader_weight
    (weight * torch.stack(workers).mean()).backward()
    expected = gradients(stack)
    check_gradients("greedy", expected, progress)
    for index, block in enumerate(stack.blocks):
        assert any(g.abs().sum() > 0 for g in gradients(block)) == (index == active)


def test_greedy_shares_the_epochs_out_evenly():
    turns = [active_block(epoch / 10, 3) for epoch in range(10)]
    assert turns == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_greedy_freezes_the_batch_statistics_of_earlier_blocks():
    norm = nn.BatchNorm1d(5)
    head = WorkerHead((5,), 3, norm="none")
    blocks = [LocalBlock(nn.Sequential(norm), head), LocalBlock(nn.Sequential(), head)]
    stack = BlockStack(blocks).double().train()
    METHOD_RULES["greedy"].step(stack, make_inputs(), LABELS, replace(SETTINGS, progress=0.5))
    assert norm.num_batches_tracked == 0


def test_dfa_feedback_is_fixed_and_saved_with_the_model():
    stack = make_stack("dfa")
    assert "blocks.0.auxiliary.weight" in stack.state_dict()
    assert not any("auxiliary" in name for name, _ in stack.named_parameters())


def test_dfa_gradients_of_a_block_know_nothing_of_the_blocks_after_it():
    """Other weights after a block, the same error: the same gradient."""
    stack, other = make_stack("dfa"), make_stack("dfa")
    with torch.no_grad():
        # Opposite signs cancel: the output, and so its error, stays as it was.
        other[1].body[0].weight.neg_()
        other[1].body[0].bias.neg_()
        other[2].body[0].weight.neg_()
    for each in (stack, other):
        METHOD_RULES["dfa"].step(each, make_inputs(), LABELS, SETTINGS)
    for a, b in zip(gradients(stack[0]), gradients(other[0]), strict=True):
        torch.testing.assert_close(a, b)


def test_adaptive_leadership_uses_its_own_fraction_and_keeps_it():
    stack = make_stack("lfnn_l", "auto")
    adaptive = replace(SETTINGS, leader_fraction="auto")
    METHOD_RULES["lfnn_l"].step(stack, make_inputs(), LABELS, adaptive)
    assert isinstance(stack[0].auxiliary, AdaptiveLeadership) and stack[2].auxiliary is None
    assert make_stack("lfnn_l", 0.5)[0].auxiliary is None
    hidden = TARGET.loss(forward_by_hand(stack, detach=True)[0], LABELS)
    expected = indistinguishable_share(hidden)
    assert float(stack.state_dict()["blocks.0.auxiliary.leader_fraction"]) == pytest.approx(
        expected
    )


def test_workers_within_one_standard_error_of_the_best_lead():
    """Differences to the best worker: 0; mean 1, error 1 / √4; mean 1, error 2.3 / √4."""
    losses = torch.tensor([[1.0, 3.0, 5.0], [1.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 1.0]])
    assert indistinguishable_share(losses) == pytest.approx(2 / 3)


@pytest.mark.parametrize("method", ["lfnn", "lfnn_l", "deep_supervision", "predsim"])
def test_a_step_reports_one_finite_loss_for_each_block(method):
    result = METHOD_RULES[method].step(make_stack(method), make_inputs(), LABELS, SETTINGS)
    assert len(result.losses) == 3
    assert all(torch.isfinite(loss) and not loss.requires_grad for loss in result.losses)


@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_a_step_moves_no_weight(method):
    stack = make_stack(method)
    before = [p.clone() for p in stack.parameters()]
    METHOD_RULES[method].step(stack, make_inputs(), LABELS, SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(before, stack.parameters(), strict=True))


@pytest.mark.parametrize("method", list(METHOD_RULES))
def test_a_step_returns_the_networks_output(method):
    stack = make_stack(method)
    # The last turn of a method that trains blocks in turn.
    result = METHOD_RULES[method].step(
        stack, make_inputs(), LABELS, replace(SETTINGS, progress=0.9)
    )
    torch.testing.assert_close(result.output, stack(make_inputs()).detach())


def test_bp_trains_bodies_without_hidden_heads():
    stack = make_stack("bp")
    METHOD_RULES["bp"].step(stack, make_inputs(), LABELS, SETTINGS)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(stack))


@pytest.mark.parametrize("shape", [(5,), (7, 5), (5, 6, 7), (5, 6, 7, 8)])
def test_predsims_projection_keeps_the_shape_of_the_features(shape):
    projection = METHOD_RULES["predsim"].build_auxiliary(AuxiliaryRequest(shape, 3, 1.0))
    assert projection(torch.zeros(2, *shape)).shape == (2, *shape)
    weight = projection.weight
    assert projection.bias is None and weight.shape == (
        5,
        5,
        *[3] * (len(shape) - 1) * (len(shape) > 2),
    )


def test_resting_blocks_draw_from_their_own_randomness_and_learn_nothing():
    stack, drawn = make_stack("lfnn_l"), []

    def randomness(block_index):
        drawn.append(block_index)
        return nullcontext()

    METHOD_RULES["lfnn_l"].step(
        stack,
        make_inputs(),
        LABELS,
        replace(SETTINGS, resting=frozenset({0}), randomness=randomness),
    )
    assert drawn == [0, 1, 2]
    assert all(p.grad is None for p in stack[0].parameters())
    assert all(p.grad is not None for p in stack[1].body.parameters())


def test_adaptive_leadership_forgets_its_start_and_reads_an_earlier_mean():
    sure, unsure = torch.tensor([[0.0, 9.0], [0.0, 9.1]]), torch.zeros(2, 2)
    fresh = AdaptiveLeadership()
    assert fresh.update(sure) == 0.5
    assert fresh.update(unsure) == pytest.approx((0.99 * 0.5 + 1.0) / 1.99)
    former = AdaptiveLeadership()
    former.load_state_dict({"leader_fraction": torch.tensor(0.8, dtype=torch.float64)})
    assert former.update(sure) == pytest.approx(0.99 * 0.8 + 0.01 * 0.5)
