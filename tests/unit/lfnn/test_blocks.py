from itertools import combinations

import pytest
import torch
from torch import nn

from brainage.errors import ConfigError
from brainage.lfnn.blocks import (
    BlockStack,
    LocalBlock,
    block_shares,
    build_stack,
    check_starts,
    choose_starts,
    measure_costs,
    measure_shape,
    split,
)
from brainage.lfnn.workers import WorkerHead

COSTS = {"a": 9, "b": 1, "c": 4, "d": 4, "e": 2, "f": 7}


def largest(starts: list[str]) -> int:
    sums = []
    for name, cost in COSTS.items():
        if name in starts:
            sums.append(0)
        sums[-1] += cost
    return max(sums)


@pytest.mark.parametrize("blocks", range(1, 7))
def test_cut_makes_the_largest_block_as_cheap_as_any_cut(blocks):
    chosen = choose_starts(COSTS, blocks)
    possible = [["a", *rest] for rest in combinations(list(COSTS)[1:], blocks - 1)]
    assert len(chosen) == blocks and chosen[0] == "a"
    assert largest(chosen) == min(largest(starts) for starts in possible)


def test_more_blocks_than_stages_are_refused():
    with pytest.raises(ConfigError, match="7 blocks do not fit a network of 6 stages"):
        choose_starts(COSTS, 7)


def test_unknown_cut_is_refused_with_the_stages_names():
    with pytest.raises(ConfigError, match=r"'x'.*Stages: a, b"):
        check_starts(["x"], {"a": nn.Identity(), "b": nn.Identity()})


def test_cuts_come_in_network_order_and_start_with_the_first_stage():
    stages = {name: nn.Identity() for name in "abcd"}
    assert check_starts(["d", "b"], stages) == ["a", "b", "d"]


def test_costs_count_the_work_of_each_stage():
    stages = {"wide": nn.Conv3d(1, 8, 3, padding=1), "thin": nn.Conv3d(8, 1, 1)}
    costs = measure_costs(stages, torch.zeros(1, 1, 4, 4, 4))
    assert costs["time"] == {"wide": 2 * 64 * 8 * 27, "thin": 2 * 64 * 8}
    assert costs["memory"] == {"wide": 64 * 8, "thin": 64}
    assert costs["parameters"] == {"wide": 8 * 27 + 8, "thin": 8 + 1}


def test_stack_output_is_that_of_the_uncut_network():
    torch.manual_seed(0)
    stages = {f"s{n}": nn.Sequential(nn.Conv3d(1, 1, 3), nn.ReLU()) for n in range(3)}
    uncut = nn.Sequential(*stages.values())
    stack = build_stack(
        stages,
        ["s0", "s2"],
        torch.zeros(1, 1, 9, 9, 9),
        lambda place: (WorkerHead(place.feature_shape, 2), None),
    )
    inputs = torch.randn(4, 1, 9, 9, 9)
    assert len(stack) == 2
    torch.testing.assert_close(stack(inputs), stack.read_out(1, uncut(inputs)).squeeze(1))


class Fussy(nn.Module):
    def forward(self, features):
        raise RuntimeError("x" * 200 + "\nsecond line")


def test_too_small_input_is_refused_and_the_network_stays_in_its_mode():
    stage = nn.Sequential(nn.Dropout(1.0), Fussy())
    for training in (True, False):
        with pytest.raises(ConfigError) as caught:
            measure_shape(stage.train(training), (1, 4, 4))
        assert stage.training == training
    assert str(caught.value) == (
        "network.name: a stage cannot work on shape (1, 4, 4) and type torch.float32: "
        f"{'x' * 120}. Use other channels or another type; where it is too small, a larger shape."
    )
    norm = nn.BatchNorm1d(3)
    assert measure_shape(norm, (3,)) == (3,) and norm.num_batches_tracked == 0 and norm.training


def test_refusals_of_cuts_say():
    stages = {"a": nn.Identity(), "b": nn.Identity()}
    with pytest.raises(ConfigError) as caught:
        check_starts(["x"], stages)
    assert str(caught.value) == "learning.cuts: no stage is called 'x'. Stages: a, b."
    with pytest.raises(ConfigError) as caught:
        split(stages, torch.zeros(1, 1, 2, 2), blocks=3)
    assert str(caught.value) == (
        "learning.blocks: 3 blocks do not fit a network of 2 stages. Use 1 to 2."
    )


def test_a_stage_costs_something_and_is_measured_in_evaluation_mode():
    norm = nn.BatchNorm2d(3)
    costs = measure_costs({"norm": norm, "pool": nn.AdaptiveAvgPool2d(1)}, torch.zeros(1, 3, 4, 4))
    assert costs["time"] == {"norm": 1, "pool": 1} and costs["memory"] == {"norm": 48, "pool": 3}
    assert costs["parameters"] == {"norm": 6, "pool": 0}
    assert norm.training and norm.num_batches_tracked == 0 and not norm._forward_hooks


def test_equal_cuts_are_made_early():
    assert choose_starts({"a": 1, "b": 1, "c": 1}, 2) == ["a", "b"]


def make_stages() -> dict[str, nn.Module]:
    """The first is dear in time, the first three alike in memory, the last in parameters."""
    return {
        "wide": nn.Conv2d(1, 4, 5, padding=2),
        "thin": nn.Conv2d(4, 4, 1),
        "pool": nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        "full": nn.Linear(16, 64),
    }


@pytest.mark.parametrize(
    ("cut_by", "starts"),
    [("time", ["wide", "thin"]), ("memory", ["wide", "pool"]), ("parameters", ["wide", "full"])],
)
def test_the_cut_shares_out_what_is_asked_for(cut_by, starts):
    assert split(make_stages(), torch.zeros(1, 1, 8, 8), blocks=2, cut_by=cut_by) == starts


def test_shares_of_the_blocks_add_up_to_the_network():
    rows = block_shares(make_stages(), ["wide", "full"], torch.zeros(1, 1, 8, 8))
    assert [row["stages"] for row in rows] == ["wide … pool", "full"]
    assert [row["block"] for row in rows] == [0, 1]
    weights = [104 + 20 + 20, 16 * 64 + 64]
    assert [row["parameters"] for row in rows] == [n / sum(weights) for n in weights]
    for measure in ("time", "memory", "parameters"):
        assert sum(row[measure] for row in rows) == pytest.approx(1.0)


def test_plain_network_gives_the_same_output_without_hidden_heads():
    torch.manual_seed(0)
    stages = {f"s{n}": nn.Linear(4, 4) for n in range(3)}
    stack = build_stack(
        stages,
        ["s1", "s2"],
        torch.zeros(1, 4),
        lambda place: (WorkerHead(place.feature_shape, 2), nn.Identity()),
    )
    plain = stack.eval().to_plain()
    assert [block.head is None for block in plain.blocks] == [True, True, False]
    assert torch.equal(plain(torch.ones(3, 4)), stack(torch.ones(3, 4)))


def test_outputs_of_all_blocks_name_those_without_a_head():
    bodies = [nn.Sequential(nn.Linear(4, 4)) for _ in range(3)]
    heads = [WorkerHead((4,), 2, norm="none"), None, WorkerHead((4,), 2, norm="none")]
    stack = BlockStack([LocalBlock(*pair) for pair in zip(bodies, heads, strict=True)])
    inputs = torch.randn(5, 4)
    first, none, last = stack.block_outputs(inputs)
    assert none is None
    torch.testing.assert_close(first, heads[0](bodies[0](inputs)))
    torch.testing.assert_close(last.squeeze(1), stack(inputs))


def test_weights_of_auxiliary_modules_under_their_former_name_still_load():
    def make(fill):
        block = LocalBlock(nn.Sequential(nn.Linear(2, 2)), None, nn.Linear(2, 2))
        nn.init.constant_(block.auxiliary.weight, fill)
        return BlockStack([block])

    old = {
        name.replace(".auxiliary.", ".aid."): value
        for name, value in make(3.0).state_dict().items()
    }
    stack = make(0.0)
    stack.load_state_dict(old)
    assert (stack[0].auxiliary.weight == 3.0).all() and "blocks.0.aid.weight" in old
