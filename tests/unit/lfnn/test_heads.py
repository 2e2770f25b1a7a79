"""Heads by name: what they are made of, in two and three dimensions, and what they refuse."""

import pytest
import torch
from torch import nn

from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockPlace, build_stack
from brainage.lfnn.heads import build_head
from brainage.lfnn.heads.auglocal import choose_stages, fresh_copy
from brainage.lfnn.workers import Head
from brainage.types import HEADS

SHAPES = [(6,), (5, 6), (6, 9, 7), (6, 9, 7, 5)]


def build(kind: str, shape: tuple[int, ...], **more) -> nn.Module:
    torch.manual_seed(0)
    return build_head(Head(kind, workers=2), BlockPlace(shape, shape, **more), 3)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", HEADS)
def test_every_head_reads_features_of_every_kind(kind, shape):
    if kind == "conv" and len(shape) < 3:
        pytest.skip("a convolution needs maps")
    head = build(kind, shape)
    features = torch.randn(4, *shape, requires_grad=True)
    head(features).square().sum().backward()
    assert head(features).shape == (4, 2, 3)
    assert features.grad.abs().sum() > 0


def test_the_dgl_head_is_pooling_three_convolutions_and_three_layers():
    head = build("dgl", (6, 9, 7))
    convolutions = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert [c.kernel_size for c in convolutions] == [(1, 1)] * 3
    assert head[0].grid == (3, 2) and [m.weight.shape for m in layers] == [(24, 24)] * 2
    expected = 3 * (36 + 12) + 2 * (24 * 24 + 48) + 2 * 3 * 25
    assert parameters(head) == expected


def test_a_thin_head_grows_with_the_width_and_not_with_its_square():
    narrow, wide = (parameters(build("thin", (width, 4, 4))) for width in (1024, 2048))
    assert wide - narrow == 128 * 1024
    assert parameters(build("conv", (256, 4, 4))) > 3 * parameters(build("thin", (256, 4, 4)))


def stages() -> dict[str, nn.Module]:
    return {
        "one": nn.Conv2d(2, 4, 3, padding=1),
        "two": nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.MaxPool2d(2)),
        "three": nn.Conv2d(6, 8, 3, padding=1),
        "relu": nn.ReLU(),
        "four": nn.Sequential(nn.Flatten(), nn.Linear(128, 5)),
    }


def build_augmented(starts: list[str]):
    head = Head("auglocal", workers=2)
    parts = lambda place: (build_head(head, place, 3), None)  # noqa: E731
    return build_stack(stages(), starts, torch.zeros(1, 2, 8, 8), parts)


def test_heads_are_copies_of_later_stages_and_share_no_weight_with_them():
    stack = build_augmented(["two", "three", "four"])
    outputs = stack.block_outputs(torch.randn(3, 2, 8, 8))
    assert [each.shape for each in outputs] == [(3, 2, 3)] * 3 + [(3, 1, 3)]
    kinds = [sum(isinstance(m, nn.Conv2d) for m in block.head.modules()) for block in stack.blocks]
    # The first copies all three later stages, the second two, one after skipping nothing.
    assert kinds == [2, 1, 0, 0]
    own = [id(p) for block in stack.blocks for p in block.body.parameters()]
    copied = [id(p) for block in stack.blocks for p in block.head.parameters()]
    assert not set(own) & set(copied)


def test_a_copy_draws_its_weights_anew():
    stage = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    stage(torch.randn(9, 4))
    copy = fresh_copy(stage)
    assert not torch.equal(copy[0].weight, stage[0].weight)
    assert copy[1].num_batches_tracked == 0


def test_deeper_blocks_copy_fewer_stages_evenly_spaced_up_to_the_last():
    found = [(nn.Identity(), (n,), (n,)) for n in range(9)]
    chosen = [
        [given[0] for _, _, given in choose_stages(found, BlockPlace((1,), (), index, 4))]
        for index in range(3)
    ]
    assert chosen == [[2, 5, 8], [3, 8], [8]]


def test_skipped_stages_are_bridged_by_pooling_and_channels():
    later = (nn.MaxPool2d(2), nn.Conv2d(4, 9, 1), nn.MaxPool2d(2), nn.Conv2d(9, 5, 1))
    place = BlockPlace((4, 8, 8), (), 2, 4, later)
    head = build_head(Head("auglocal", workers=2), place, 3)
    adapter = head[0]
    assert adapter[0].grid == (2, 2) and adapter[1].weight.shape == (9, 4, 1, 1)
    assert head(torch.randn(3, 4, 8, 8)).shape == (3, 2, 3)


def test_stages_of_another_kind_of_features_are_refused():
    later = (nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 8))
    with pytest.raises(ConfigError, match=r"learning\.head: auglocal cannot lead"):
        build_head(Head("auglocal"), BlockPlace((4, 4, 4), (), 1, 3, later), 3)


@pytest.mark.parametrize("kind", ["thin", "dgl", "auglocal"])
def test_workers_of_a_head_that_mixes_channels_have_none_of_their_own(kind):
    with pytest.raises(ConfigError, match=r"learning\.worker_reads"):
        build_head(Head(kind, reads="own"), BlockPlace((8, 4, 4)), 3)


def test_an_unknown_head_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"dgl.*native"):
        build_head(Head("magic"), BlockPlace((8,)), 3)
