"""Parts of a network that its stages do not show are refused, not left behind untrained."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from brainage import lfnn
from brainage.errors import ConfigError

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers; between them what the stages might forget."""

    def __init__(self, between):
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(6, 6), nn.Linear(6, 3), nn.Dropout(0.3)
        self.position = nn.Parameter(torch.zeros(6))
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, self.first(x)))


def localize(network, *between):
    settings = {"blocks": 2, "target": lfnn.Classes(3), "example": X}
    return lfnn.localize(network, **settings, stages=["first", *between, "last"])


@pytest.mark.parametrize(
    ("between", "message"),
    [
        (lambda net, x: x + net.position, r"position \(6,\) is used in the forward"),
        (lambda net, x: net.drop(x), r"dropout.* that no stage has"),
        (lambda net, x: functional.dropout(x, 0.2, net.training), r"dropout.* that no stage has"),
    ],
)
def test_what_changes_no_number_at_first_is_refused_where_no_stage_has_it(between, message):
    with pytest.raises(ConfigError, match=message):
        localize(Net(between))


def test_dropout_in_its_place_is_taken():
    localize(Net(lambda net, x: net.drop(x)), "drop")


def test_a_weight_that_a_function_takes_from_another_block_is_refused():
    first = nn.Linear(6, 6)
    steps = [first, nn.ReLU(), nn.Linear(6, 6), lambda x: x @ first.weight]
    with pytest.raises(ConfigError, match=r"blocks 0 and 1 share .*weight \(6, 6\)"):
        lfnn.localize(steps, blocks=2, target=lfnn.Classes(3), example=X)


class PreActivated(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.linear, self.relu = nn.Linear(6, 6), nn.ReLU(in_place)

    def forward(self, x):
        return self.linear(self.relu(x))


@pytest.mark.parametrize("method", ["movement", "infopro", "lfnn_l", "lfnn"])
def test_blocks_that_change_their_input_in_place_learn_as_others_do(method):
    losses = []
    for in_place in (True, False):
        torch.manual_seed(0)
        steps = [nn.Linear(6, 6), PreActivated(in_place), PreActivated(in_place), nn.Linear(6, 3)]
        settings = {"blocks": 4, "target": lfnn.Classes(3), "example": X, "method": method}
        net = lfnn.localize(steps, **settings)
        net.step(X, torch.tensor([0, 1, 2, 0]))
        losses.append(torch.stack(net.losses))
    assert torch.equal(*losses)


def test_functions_between_stages_see_the_mode_of_the_localized_network():
    network = Net(lambda net, x: functional.dropout(x, 0.5, net.training))
    net = localize(network, lambda x: functional.dropout(x, 0.5, network.training))
    assert torch.equal(net.eval()(X), net(X))
    assert not torch.equal(net.train()(X), net(X))


@pytest.mark.parametrize("wrong", [{"blocks": 0}, {"leader_fraction": 0.0}, {"leader_fraction": 2}])
def test_no_blocks_and_no_share_of_leaders_are_refused(wrong):
    settings = {"blocks": 2, "target": lfnn.Classes(3), "example": X} | wrong
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        lfnn.localize([nn.Linear(6, 6), nn.Linear(6, 3)], **settings)
