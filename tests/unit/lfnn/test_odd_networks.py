"""Networks with layers that serve twice, sequences, lazy layers, other precisions, random parts."""

import io
from copy import deepcopy
from dataclasses import replace

import joblib
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from brainage import lfnn
from brainage.errors import ConfigError
from brainage.types import METHODS

CLASSES, LABELS = lfnn.Classes(3), torch.tensor([0, 1, 2, 0])


class Pooled(nn.Module):
    """As in PyTorch's tutorial: one pooling and one activation for both convolutions."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.rest = nn.Sequential(nn.Flatten(), nn.Linear(32, 8), self.relu, nn.Linear(8, 3))

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        return self.rest(self.pool(self.relu(self.conv2(x))))


def test_layers_without_weights_may_stand_in_several_places():
    network, x = Pooled(), torch.randn(4, 1, 14, 14)
    stages = ["conv1", torch.relu, "pool", "conv2", "relu", "pool", "rest"]
    net = lfnn.localize(network, blocks=4, target=CLASSES, example=x, stages=stages)
    assert torch.equal(net.eval()(x), network(x))
    stages.remove("pool")
    with pytest.raises(ConfigError, match=r"stage 'conv2'.* works on something else"):
        lfnn.localize(network, blocks=4, target=CLASSES, example=x, stages=stages)


class Added(nn.Module):
    def __init__(self, between=None):
        super().__init__()
        self.first, self.last, self.between = (
            nn.Linear(6, 6, False),
            nn.Linear(6, 3, False),
            between,
        )

    def forward(self, x):
        return self.last(self.first(x) + x if self.between is None else self.between(self.first(x)))


@pytest.mark.parametrize(
    "example", [torch.zeros(2, 6), torch.ones(2, 6), torch.full((2, 6), torch.nan)]
)
def test_a_skip_connection_is_found_with_an_example_that_tells_nothing(example):
    with pytest.raises(ConfigError, match=r"stage 'last'.* works on something else"):
        lfnn.localize(Added(), blocks=2, target=CLASSES, example=example, stages=["first", "last"])


def test_a_skip_connection_is_found_where_all_numbers_are_small():
    x = 1e-6 * torch.randn(4, 6)
    with pytest.raises(ConfigError, match=r"stage 'last'.* works on something else"):
        lfnn.localize(Added(), blocks=2, target=CLASSES, example=x, stages=["first", "last"])


class DropPath(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full((len(x), 1), 0.5)) if self.training else x


def test_a_random_part_of_training_is_refused_where_no_stage_has_it():
    settings = {"blocks": 2, "target": CLASSES, "example": torch.randn(4, 6)}
    network = Added(DropPath())
    state = torch.get_rng_state()
    lfnn.localize(network, **settings, stages=["first", "between", "last"], method="bp")
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ConfigError, match=r"in training .*random part"):
        lfnn.localize(network, **settings, stages=["first", "last"])


class Counting(nn.Module):
    """Remembers how often it has run in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x):
        self.runs += self.training
        return x + self.runs


def test_state_and_modes_stay_as_they_were_where_training_is_compared():
    network = Added(nn.Sequential(Counting(), nn.BatchNorm1d(6), nn.Dropout(0.5)))
    settings = {"blocks": 2, "target": CLASSES, "example": torch.randn(1, 6)}
    lfnn.localize(network, **settings, stages=["first", "between", "last"])
    assert network.training and network.between[0].runs == 0


@pytest.mark.parametrize("start", [["3"], 2])
@pytest.mark.parametrize("method", ["lfnn_l", "mono_forward"])
def test_lazy_layers_make_their_weights_first(start, method):
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(4, 1, 6, 6)
    net = lfnn.localize(network, blocks=start, target=CLASSES, example=x, method=method)
    net.step(x, LABELS)
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_adds_has_the_precision_of_the_network(method, dtype):
    x = torch.randn(4, 1, 6, 6, dtype=dtype)
    layers = [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3)]
    network = nn.Sequential(*layers).to(dtype)
    net = lfnn.localize(network, blocks=3, target=CLASSES, example=x, method=method)
    assert torch.isfinite(net.step(x, LABELS, progress=0.0))


class Filter(nn.Module):
    """Weighs frequencies by complex numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dtype=torch.complex64))

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=6)


def to(dtype):
    return lambda x: x.to(dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "first",
    [
        [nn.Linear(6, 6, dtype=torch.float64), to(torch.float32)],
        [to(torch.float32), Filter(), nn.Linear(6, 6), to(torch.float64)],
        [to(torch.complex64), nn.Linear(6, 6, dtype=torch.complex64), lambda x: x.real],
    ],
    ids=["double", "complex weight", "complex layer"],
)
def test_heads_have_the_type_of_what_they_read(first, method):
    x, rest = torch.randn(4, 6, dtype=torch.float64), [to(torch.float32), nn.Linear(6, 3)]
    net = lfnn.localize(first + rest, blocks=2, target=CLASSES, example=x, method=method)
    assert torch.isfinite(net.step(x, LABELS, progress=0.0))
    if net.stack[0].head is not None:
        assert net.stack[0].head.weight.dtype == net.stack[0].body(x).dtype


@pytest.mark.parametrize("method", ["lfnn_l", "dfa"])
def test_blocks_that_end_in_complex_numbers_are_refused(method):
    x = torch.zeros(4, 6, dtype=torch.complex64)
    layers = [nn.Linear(6, 6, dtype=torch.complex64), nn.Linear(6, 6, dtype=torch.complex64)]
    settings = {"target": CLASSES, "example": x, "method": method}
    with pytest.raises(ConfigError, match=r"stage 0: gives torch\.complex64"):
        lfnn.localize([*layers, torch.real, nn.Linear(6, 3)], blocks=3, **settings)
    lfnn.localize([*layers, torch.real, nn.Linear(6, 3)], blocks=["3"], **settings)


@pytest.mark.parametrize("how", [AssertionError(), IndexError("far\nout"), TypeError("no query.")])
def test_a_stage_that_cannot_work_on_its_input_is_told_in_a_line(how):
    def fail(x):
        raise how

    with pytest.raises(ConfigError, match=r"shape \(6,\) and type torch.float32: [A-Za-z ]+\. "):
        lfnn.localize([fail, nn.Linear(6, 3)], blocks=1, target=CLASSES, example=torch.randn(4, 6))


def test_scripted_members_are_cut_as_others():
    layers = [torch.jit.script(nn.Linear(6, 6)), nn.Linear(6, 6), nn.Linear(6, 3)]
    x = torch.randn(4, 6)
    lfnn.assert_isolated(lfnn.localize(layers, blocks=3, target=CLASSES, example=x), x, LABELS)


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm1d(8), nn.GroupNorm(2, 8)])
def test_heads_read_the_channels_of_sequences(norm):
    x = torch.randn(4, 2, 30)
    layers = [weight_norm(nn.Conv1d(2, 8, 5, bias=False)), norm, nn.ReLU(), nn.Conv1d(8, 16, 5)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 22, 3))
    net = lfnn.localize(network, blocks=["3", "5"], target=CLASSES, example=x)
    assert net.stack[0].head.weight.shape == (8, 3, 8)
    assert net.stack[0].body(x).shape == (4, 26, 8)
    assert torch.equal(net.eval()(x), network(x))


def test_sequences_that_were_turned_to_tokens_stay_so():
    x = torch.randn(4, 2, 30)
    turn = lambda x: x.transpose(1, 2)  # noqa: E731
    layers = [nn.Conv1d(2, 8, 5), turn, nn.Linear(8, 8), lambda x: x.mean(1), nn.Linear(8, 3)]
    net = lfnn.localize(layers, blocks=3, target=CLASSES, example=x)
    assert net.stack[0].body(x).shape == (4, 26, 8) and net.stack[0].head.weight.shape[-1] == 8


class Dropping(nn.Module):
    def __init__(self, in_place, is_function):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5, in_place), nn.Linear(6, 6)
        self.is_function = is_function

    def forward(self, x):
        if self.is_function:
            return self.linear(functional.dropout(x, 0.5, self.training, self.drop.inplace))
        return self.linear(self.drop(x))


@pytest.mark.parametrize("is_function", [False, True])
@pytest.mark.parametrize("method", ["movement", "infopro"])
def test_dropout_in_place_leaves_the_input_of_its_block_alone(method, is_function):
    x, losses = torch.randn(4, 6), []
    for in_place in (True, False):
        torch.manual_seed(0)
        steps = [*(Dropping(in_place, is_function) for _ in range(2)), nn.Linear(6, 3)]
        net = lfnn.localize(steps, blocks=3, target=CLASSES, example=x, method=method)
        before = x.clone()
        net.step(x, LABELS)
        assert torch.equal(x, before)
        losses.append(torch.stack(net.losses))
    assert torch.equal(*losses)


@pytest.mark.parametrize("method", METHODS)
def test_localized_networks_can_be_pickled(method):
    x = torch.randn(4, 6)
    net = lfnn.localize(
        [nn.Linear(6, 6), nn.Linear(6, 3)], blocks=2, target=CLASSES, example=x, method=method
    )
    stream = io.BytesIO()
    joblib.dump(net, stream)
    stream.seek(0)
    again = joblib.load(stream)
    assert torch.equal(net.step(x, LABELS, progress=0.0), again.step(x, LABELS, progress=0.0))


def test_greedy_wants_to_know_whose_turn_it_is():
    x = torch.randn(4, 6)
    layers = [nn.Linear(6, 6), nn.Linear(6, 3)]
    net = lfnn.localize(layers, blocks=2, target=CLASSES, example=x, method="greedy")
    with pytest.raises(ConfigError, match="progress"):
        net.step(x, LABELS)
    net.step(x, LABELS, progress=0.6)
    assert layers[0].weight.grad is None and layers[1].weight.grad is not None


@pytest.mark.parametrize("wrong", [(1, 0.0), (3, 1.0), (3, -0.1)])
def test_classes_without_a_choice_are_refused(wrong):
    with pytest.raises(ConfigError, match="2 classes"):
        lfnn.Classes(*wrong)


STATEFUL = [
    nn.BatchNorm2d(4),
    nn.BatchNorm2d(4, momentum=None),
    nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    spectral_norm(nn.Conv2d(4, 4, 1)),
]


@pytest.mark.parametrize("layer", STATEFUL, ids=range(4))
@pytest.mark.parametrize("method", ["bp", "lfnn_l"])
def test_activations_computed_once_more_change_no_state_and_no_gradient(method, layer):
    x = torch.randn(4, 1, 6, 6)
    layers = [nn.Conv2d(1, 4, 3), deepcopy(layer), nn.Flatten(), nn.Linear(64, 3)]
    net = lfnn.localize(layers, blocks=2, target=CLASSES, example=x, method=method)
    again = deepcopy(net)
    again.settings = replace(again.settings, recomputes=True)
    for each in (net, again):
        each.step(x, LABELS)
        each.step(x, LABELS)
    for one, other in zip(net.parameters(), again.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)
    for one, other in zip(net.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


def test_weights_that_are_unfrozen_later_learn():
    x, layers = torch.randn(4, 6), [nn.Linear(6, 8), nn.Linear(8, 3)]
    layers[0].requires_grad_(False)
    net = lfnn.localize(layers, blocks=2, target=CLASSES, example=x)
    optimizers = net.optimizers(lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    before = layers[0].weight.clone()
    for is_learning in (False, True):
        layers[0].requires_grad_(is_learning)
        net.step(x, LABELS)
        optimizers.step()
        optimizers.zero_grad()
        assert torch.equal(layers[0].weight, before) != is_learning


class Halves(nn.Linear):
    """Changes its input in place, as pre-activations may."""

    def forward(self, x):
        return super().forward(x.mul_(0.5))


@pytest.mark.parametrize("method", ["lfnn_l", "lfnn", "dfa"])
def test_recomputing_gives_the_same_where_inputs_are_changed_in_place(method):
    x, gradients = torch.randn(4, 6), []
    for recomputes in (False, True):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(6, 8), Halves(8, 8), Halves(8, 8), Halves(8, 3))
        net = lfnn.localize(layers, blocks=2, target=CLASSES, example=x, method=method)
        net.settings = replace(net.settings, recomputes=recomputes)
        net.step(x, LABELS)
        gradients.append([weight.grad for weight in layers.parameters()])
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize(
    "wrong",
    [
        {"leader_fraction": 0},
        {"leader_fraction": 50},
        {"leader_fraction": "auto"},
        {"selection": "per-sample"},
        {"follower_space": "prob"},
    ],
)
def test_settings_of_a_step_that_would_count_as_others_are_refused(wrong):
    x, layers = torch.randn(4, 6), [nn.Linear(6, 8), nn.Linear(8, 3)]
    net = lfnn.localize(layers, blocks=2, target=CLASSES, example=x, leader_fraction=0.5)
    net.settings = replace(net.settings, **wrong)
    with pytest.raises(ConfigError) as refused:
        net.step(x, LABELS)
    assert refused.value.where == next(iter(wrong))


@pytest.mark.parametrize(
    "wrong", [{"norm": "BatchNorm"}, {"token": "cls"}, {"reads": "native"}, {"workers": 0}]
)
def test_words_that_no_head_knows_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        lfnn.Head(**wrong)


@pytest.mark.parametrize("blocks", [True, "2", [], 0])
def test_what_is_no_number_of_blocks_is_refused(blocks):
    layers = [nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
    with pytest.raises(ConfigError, match="blocks"):
        lfnn.localize(layers, blocks=blocks, target=CLASSES, example=torch.randn(4, 6))


def test_progress_in_percent_is_refused():
    x, layers = torch.randn(4, 6), [nn.Linear(6, 8), nn.Linear(8, 3)]
    net = lfnn.localize(layers, blocks=2, target=CLASSES, example=x, method="greedy")
    with pytest.raises(ConfigError, match="progress"):
        net.step(x, LABELS, progress=30)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x, also):
        return self.second(torch.relu(self.first(x)) + also)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": TwoInputs(), "stages": ["first", torch.relu, "second"]},
        {"example": (torch.randn(4, 6), torch.randn(4, 8))},
        {"example": None},
        {"leader_fraction": "half"},
        {"leader_fraction": None},
    ],
    ids=["two inputs", "two examples", "no example", "a word", "nothing"],
)
def test_what_localize_cannot_work_with_is_told_in_a_line(changes):
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)]
    given = {"network": layers, "blocks": 2, "target": CLASSES, "example": torch.randn(4, 6)}
    with pytest.raises(ConfigError):
        lfnn.localize(**given | changes)
