"""What crosses the boundary between two stages, with a wire in memory instead of processes."""

from collections import deque

import pytest
import torch
from torch import nn

from brainage.lfnn.blocks import BlockStack, LocalBlock
from brainage.lfnn.parallel import transport as pipelined
from brainage.lfnn.parallel.transport import (
    BUFFERS,
    Inlet,
    Outlet,
    Place,
    RankLostError,
    average_gradients,
    incoming,
    keep_blocks,
    place_ranks,
    shard,
    share_buffers,
)
from brainage.lfnn.step import StepSettings
from brainage.lfnn.targets import Classes
from brainage.lfnn.workers import WorkerHead

CPU = torch.device("cpu")


class Work:
    """A message under way; done when it is waited for."""

    def __init__(self, finish, log):
        self.finish, self.log = finish, log

    def wait(self):
        self.log.append("wait")
        self.finish()


class Wire:
    """`torch.distributed`, as far as `pipelined` asks, in this process."""

    def __init__(self):
        self.sent, self.log, self.calls = deque(), [], []

    def isend(self, tensor, rank):
        self.log.append("send")
        self.calls.append(rank)
        self.sent.append(tensor)
        return Work(lambda: None, self.log)

    def irecv(self, buffer, rank):
        self.log.append("post")
        self.calls.append(rank)
        return Work(lambda: buffer.copy_(self.sent.popleft()), self.log)

    def all_reduce(self, tensor, group):
        self.calls.append(group)
        tensor.mul_(3)

    def broadcast(self, tensor, source, group):
        self.calls.append((source, group))
        tensor.fill_(source)


@pytest.fixture
def wire(monkeypatch):
    wire = Wire()
    for name in ("isend", "irecv", "all_reduce", "broadcast"):
        monkeypatch.setattr(pipelined.dist, name, getattr(wire, name))
    return wire


def test_inlet_gives_batches_in_order_and_posts_one_ahead(wire):
    batches = [torch.full((size, 2, 3), float(size), dtype=torch.float64) for size in (4, 4, 3)]
    wire.sent.extend(batches)
    inlet = Inlet(5, [4, 4, 3], (2, 3), torch.float64, CPU)
    assert wire.log == ["post"] * BUFFERS and set(wire.calls) == {5}
    received = [inlet.receive()]
    assert wire.log == ["post", "post", "wait", "post"]
    received += [inlet.receive(), inlet.receive()]
    assert all(torch.equal(got, sent) for got, sent in zip(received, batches, strict=True))
    assert wire.log.count("post") == 3


def test_outlet_waits_only_when_two_batches_are_under_way(wire):
    outlet, features = Outlet(1), torch.randn(2, 3, requires_grad=True)
    for _ in range(BUFFERS):
        outlet.send(features.T)
    assert wire.log == ["send"] * BUFFERS
    outlet.send(features.T)
    assert wire.log == ["send", "send", "wait", "send"] and set(wire.calls) == {1}
    assert all(not sent.requires_grad and sent.is_contiguous() for sent in wire.sent)
    outlet.drain()
    assert wire.log.count("wait") == 3


def test_a_lost_rank_is_named(wire, monkeypatch):
    def lost(*_):
        raise RuntimeError("Connection closed by peer\nand more")

    inlet = Inlet(7, [1], (2,), torch.float32, CPU)
    inlet._posted[0][1].finish = lost
    with pytest.raises(RankLostError, match=r"process 7: .*Connection closed by peer\)\. Go on"):
        inlet.receive()
    monkeypatch.setattr(pipelined.dist, "isend", lost)
    with pytest.raises(RankLostError, match="process 4"):
        Outlet(4).send(torch.zeros(1))
    monkeypatch.setattr(pipelined.dist, "irecv", lost)
    with pytest.raises(RankLostError, match="process 2"):
        Inlet(2, [1], (2,), torch.float32, CPU)
    monkeypatch.setattr(pipelined.dist, "all_reduce", lambda *_, **__: lost())
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    with pytest.raises(RankLostError, match=r"^a process: is gone"):
        average_gradients(layer, "group", 0.5)


def test_gradients_are_weighted_by_their_share_and_summed(wire):
    layer = nn.Linear(3, 2)
    layer.weight.grad = torch.arange(6.0).view(2, 3)
    average_gradients(layer, "group", 0.5)
    # The wire's sum over replicas is three times the own part; the bias has no gradient.
    torch.testing.assert_close(layer.weight.grad, 1.5 * torch.arange(6.0).view(2, 3))
    assert layer.bias.grad is None and wire.calls == ["group"]
    layer.bias.grad = torch.tensor([1.0, 2.0])
    average_gradients(layer, "group", 1.0)
    torch.testing.assert_close(layer.bias.grad, torch.tensor([3.0, 6.0]))
    average_gradients(nn.Linear(2, 2), "other", 1.0)
    assert "other" not in wire.calls


def test_buffers_come_from_one_replica(wire):
    norm = nn.BatchNorm1d(2)
    share_buffers(norm, "group", 3)
    assert norm.running_mean.tolist() == [3.0, 3.0] and set(wire.calls) == {(3, "group")}
    assert len(wire.calls) == 3


def test_ranks_of_a_replica_follow_each_other():
    places = place_ranks([range(2), range(2, 3), range(3, 5)], 2)
    assert [place.rank for place in places] == list(range(6))
    assert [(place.stage, place.replica) for place in places[2:5]] == [(2, 0), (0, 1), (1, 1)]
    assert [place.is_first for place in places[:3]] == [True, False, False]
    assert [place.is_last for place in places[:3]] == [False, False, True]
    assert places[4].blocks == range(2, 3) and places[4].stages == 3 and places[4].replicas == 2


@pytest.mark.parametrize(
    ("size", "replicas", "sizes"), [(7, 1, [7]), (8, 2, [4, 4]), (7, 3, [3, 2, 2]), (4, 2, [2, 2])]
)
def test_a_batch_is_divided_among_the_replicas(size, replicas, sizes):
    values, parts = torch.arange(size), []
    for replica in range(replicas):
        part, share = shard(values, Place(0, 1, replica, replicas, range(1)))
        assert share == len(part) / size
        parts.append(part)
    assert [len(part) for part in parts] == sizes and torch.equal(torch.cat(parts), values)


def test_a_batch_too_small_to_deal_is_worked_on_whole():
    part, share = shard(torch.arange(3), Place(0, 1, 1, 2, range(1)))
    assert len(part) == 3 and share == 0.5


def make_stack():
    bodies = [nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), nn.Sequential(nn.MaxPool2d(2))]
    blocks = [LocalBlock(body, WorkerHead((3, 6, 6), 2)) for body in bodies]
    return BlockStack([*blocks, LocalBlock(nn.Sequential(nn.ReLU()), WorkerHead((3, 3, 3), 2))])


def test_what_comes_in_has_the_shape_of_the_blocks_before():
    stack, settings = make_stack().train(), StepSettings(target=Classes(2))
    assert incoming(stack, 0, (1, 8, 8), settings) == ((1, 8, 8), torch.float32)
    assert incoming(stack, 1, (1, 8, 8), settings) == ((3, 6, 6), torch.float32)
    assert incoming(stack, 2, (1, 8, 8), settings) == ((3, 3, 3), torch.float32)
    assert stack.training and int(stack[0].body[1].num_batches_tracked) == 0
    incoming(stack.eval(), 1, (1, 8, 8), settings)
    assert not stack.training


def test_kept_blocks_are_the_same_and_the_others_empty():
    stack = make_stack()
    kept = keep_blocks(stack, range(1, 3))
    assert [kept[index] is stack[index] for index in range(3)] == [False, True, True]
    assert not list(kept[0].parameters()) and kept[0].head is None
