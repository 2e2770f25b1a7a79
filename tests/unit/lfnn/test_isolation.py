"""No gradient crosses a block boundary: methods, networks, heads and cuts of the project."""

import pytest
import torch
from torch import nn

from brainage import lfnn
from brainage.errors import IsolationError
from brainage.lfnn.rules import METHOD_RULES, StepSettings
from brainage.lfnn.step import Rule, StepResult, output_loss
from brainage.model.build import block_count, build_model, build_target
from brainage.types import HEADS
from tests.small import (
    ARGUMENTS,
    IMAGE_NETWORKS,
    NETWORKS,
    make_config,
    make_image_config,
    random_batch,
)

LOCAL = [name for name, rule in METHOD_RULES.items() if rule.is_local]


def check(config):
    stack = build_model(config)
    settings = StepSettings(build_target(config.target), config.learning.leader_fraction)
    net = lfnn.LocalNetwork(stack, METHOD_RULES[config.learning.method], settings, stack)
    lfnn.assert_isolated(net, *random_batch(config))


def check_all_cuts(make, network, **learning):
    if METHOD_RULES[learning["method"]].cuts_every_stage:
        check(make(network, **learning))
        return
    for blocks in range(1, block_count(make(network, **learning)) + 1):
        check(make(network, blocks=blocks, **learning))


@pytest.mark.parametrize("method", LOCAL)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_gradient_crosses_a_block_boundary(network, method):
    check_all_cuts(make_config, network, method=method)


@pytest.mark.parametrize("method", LOCAL)
@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_no_gradient_crosses_a_block_boundary_on_images(network, method):
    check_all_cuts(make_image_config, network, method=method)


@pytest.mark.parametrize(
    "changes",
    [*({"head": name} for name in HEADS if name != "native"), {"leader_fraction": "auto"}],
)
@pytest.mark.parametrize(
    ("make", "network"), [(make_image_config, "resnet"), (make_config, "cnn3d_light")]
)
def test_no_gradient_crosses_with_other_heads_and_leaders(make, network, changes):
    check_all_cuts(make, network, method="lfnn_l", **changes)


@pytest.mark.parametrize("head", ["thin", "dgl", "auglocal"])
@pytest.mark.parametrize(("make", "network"), [(make_image_config, "mlp"), (make_config, "vit3d")])
def test_no_gradient_crosses_with_deep_heads_on_vectors_and_tokens(make, network, head):
    check(make(network, blocks=2, method="lfnn_l", head=head))


@pytest.mark.parametrize("method", LOCAL)
@pytest.mark.parametrize(
    ("make", "network", "arguments", "cuts"),
    [
        (make_config, "cnn3d_light", {"channels": [34, 34, 8]}, None),  # 2 workers of 17 bins
        (make_image_config, "mlp", {"widths": [6, 6]}, None),  # 2 workers of 3 classes
        (
            make_image_config,
            "resnet",
            {"depth": 8, "width": 6},
            ("group1_unit1", "group2_unit1"),
        ),
    ],
)
def test_no_gradient_crosses_with_native_workers(
    make, network, arguments, cuts, method, monkeypatch
):
    monkeypatch.setitem(ARGUMENTS, network, arguments)
    check(make(network, head="native", workers_per_block=2, cuts=cuts, method=method))


@pytest.mark.parametrize("network", NETWORKS + IMAGE_NETWORKS)
def test_the_walk_finds_the_leak_when_the_detach_is_removed(network, monkeypatch):
    make = make_config if network in NETWORKS else make_image_config
    config = make(network, method="lfnn_l")
    monkeypatch.setattr(torch.Tensor, "detach", lambda tensor: tensor)
    with pytest.raises(IsolationError, match=r"loss of block \d: reaches blocks\.\d.* of block \d"):
        check(config)


@pytest.mark.parametrize("method", ["bp", "lfnn", "deep_supervision"])
def test_methods_that_claim_no_isolation_have_none(method):
    with pytest.raises(IsolationError):
        check(make_image_config("mlp", method=method))


def step_with(features_of, train):
    """A rule of all blocks' losses; `features_of` is what a block hands on, `train` learns."""

    def step(stack, inputs, target_values, settings):
        losses, features = [], inputs
        for index in range(len(stack)):
            features = stack[index].body(features_of(features))
            output = stack.read_out(index, features).mean(dim=1)
            losses.append(output_loss(output, target_values, settings))
        train(losses)
        return StepResult(output.detach(), tuple(loss.detach() for loss in losses))

    return Rule(step, is_local=True)


def backward_of_each(losses):
    for loss in losses:
        loss.backward(retain_graph=True)


def make_net(rule):
    network = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    inputs, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    net = lfnn.localize(
        network, blocks=["0", "4"], target=lfnn.Classes(3), example=inputs, method=rule
    )
    return net, inputs, labels


@pytest.mark.parametrize("train", [backward_of_each, lambda losses: sum(losses).backward()])
def test_a_rule_of_one_s_own_is_judged_by_what_it_does(train):
    lfnn.assert_isolated(*make_net(step_with(torch.Tensor.detach, train)))
    with pytest.raises(IsolationError, match=r"loss of block 1: reaches blocks\.0.* of block 0"):
        lfnn.assert_isolated(*make_net(step_with(lambda features: features, train)))


def test_gradients_that_the_walk_cannot_see_are_refused():
    hidden = step_with(torch.Tensor.detach, torch.autograd.backward)
    with pytest.raises(IsolationError, match="not seen"):
        lfnn.assert_isolated(*make_net(hidden))


def test_a_loss_that_reaches_a_weight_of_no_block_is_refused():
    stray = nn.Parameter(torch.ones(4))
    rule = step_with(lambda features: features.detach() * stray.sum(), backward_of_each)
    with pytest.raises(IsolationError, match="of no block"):
        lfnn.assert_isolated(*make_net(rule))


def test_the_check_leaves_everything_as_it_was():
    net, inputs, labels = make_net("lfnn_l")
    net.eval()
    net.stack[0].body[0][0].weight.grad = torch.ones(8, 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(0)
    lfnn.assert_isolated(net, inputs, labels)
    assert torch.equal(torch.get_rng_state(), torch.manual_seed(0).get_state())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.stack.modules())
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert len(gradients) == 1 and torch.equal(gradients[0], torch.ones(8, 4))
