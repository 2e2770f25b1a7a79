"""Parts of a network that its stages do not show are refused, not left behind untrained."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

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


class Handing(nn.Module):
    """Gives features and what it made them from; adds the latter where both come."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        x, skip = x if isinstance(x, tuple) else (x, 0)
        return self.linear(x) + skip, x


def sequential(*members, before=None, behind=None):
    network = nn.Sequential(*members)
    if before is not None:
        network.register_forward_pre_hook(before)
    if behind is not None:
        network.register_forward_hook(behind)
    return network


@pytest.mark.parametrize(
    "network",
    [
        sequential(nn.Linear(6, 6), nn.Linear(6, 3), before=lambda module, args: 2 * args[0]),
        sequential(nn.Linear(6, 6), nn.Linear(6, 3), behind=lambda module, args, out: 2 * out),
        sequential(Handing(), Handing(), Handing()),
    ],
)
def test_a_sequential_that_is_more_than_its_members_is_refused(network):
    with pytest.raises(ConfigError, match=r"network: its members.* something else"):
        lfnn.localize(network, blocks=2, target=lfnn.Classes(3), example=X)


def test_a_sequential_that_is_watched_or_draws_at_random_is_taken():
    seen = []
    noise = lambda module, args, out: out + torch.randn_like(out)  # noqa: E731
    members = [nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 3)]
    members[0].register_forward_hook(noise)
    network = sequential(*members, behind=lambda module, args, out: seen.append(out.shape))
    lfnn.localize(network, blocks=2, target=lfnn.Classes(3), example=X)
    assert seen


def test_parts_whose_first_tensor_goes_on_need_no_forward_of_their_own():
    network = nn.Sequential(nn.LSTM(6, 8, batch_first=True), nn.LSTM(8, 8, batch_first=True))
    lfnn.localize(network, blocks=2, target=lfnn.Classes(3), example=X[:, None])


class Without(nn.Module):
    """Computes so that no gradient is seen to reach its weights."""

    def __init__(self, how):
        super().__init__()
        self.linear, self.how = nn.Linear(6, 6), how

    def forward(self, x):
        return self.how(self.linear, x)


HIDING = [
    torch.no_grad()(lambda linear, x: linear(x)),
    lambda linear, x: linear(x).detach(),
    lambda linear, x: checkpoint(linear, x, use_reentrant=True),
]


@pytest.mark.filterwarnings("ignore:None of the inputs")
@pytest.mark.parametrize("how", HIDING, ids=["no_grad", "detach", "reentrant"])
@pytest.mark.parametrize("before", [[], [nn.Linear(6, 6)]], ids=["alone", "behind"])
def test_weights_that_no_gradient_is_seen_to_reach_are_refused(how, before):
    stage = Without(how)
    settings = {"target": lfnn.Classes(3), "example": X, "blocks": [str(len(before) + 1)]}
    with pytest.raises(ConfigError, match=r"block 0: no gradient .*weight \(6, 6\)"):
        lfnn.localize([*before, stage, nn.Linear(6, 3)], **settings)
    frozen = [part.requires_grad_(False) for part in (*before, stage)]
    lfnn.localize([*frozen, nn.Linear(6, 3)], **settings)


def test_a_head_that_copies_a_function_with_a_weight_is_refused():
    tied = nn.Linear(6, 6)
    steps = [nn.Linear(6, 6), tied, lambda x: x @ tied.weight, nn.Linear(6, 3)]
    settings = {"blocks": ["1", "3"], "target": lfnn.Classes(3), "example": X}
    lfnn.localize(steps, **settings)
    with pytest.raises(ConfigError, match=r"head of block 0: .* 1.weight \(6, 6\)"):
        lfnn.localize(steps, head="auglocal", **settings)


@pytest.mark.parametrize("is_training", [True, False])
def test_a_weight_that_blocks_share_in_one_mode_alone_is_refused(is_training):
    def add(net, h):
        return h + h @ net.drop.weight if net.training == is_training else h

    network = Net(lambda net, h: add(net, net.middle(h)))
    network.drop, network.middle = network.first, nn.Linear(6, 6)
    stages = ["first", "middle", lambda h: add(network, h), "last"]
    settings = {"blocks": 3, "target": lfnn.Classes(3), "example": X, "stages": stages}
    for start in (network.train(), network.eval()):
        with pytest.raises(ConfigError, match=r"blocks 0 and 1 share first.weight"):
            lfnn.localize(start, **settings)
