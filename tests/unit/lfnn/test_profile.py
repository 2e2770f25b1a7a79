import pytest
import torch

from brainage.errors import ConfigError
from brainage.lfnn.blocks import cut_evenly
from brainage.lfnn.profile import (
    StageTimes,
    backpropagation_s,
    bound_of,
    cut_by_time,
    cut_like,
    join_stages,
    profile_stages,
)
from brainage.model import build_model, build_target
from tests.small import make_config, random_batch


def stage(name, forward=1.0, backward=1.0, into=1.0, head=0.0, update=0.0):
    return StageTimes(name, forward, backward, into, head, update, 10, 5)


def test_a_block_pays_for_one_head_and_not_for_its_own_input_gradient():
    stages = [stage("a", into=0.0, head=7.0), stage("b", head=0.5), stage("c", head=0.25)]
    block = join_stages(stages, 1, 3)
    assert block.forward_s == 2.0
    assert block.rest_s == 2.0 + 1.0 + 0.25  # backward of both, input gradient of c, head of c
    assert (block.backward_input_s, block.head_s) == (1.0, 0.25)
    assert (block.stages, block.parameters) == (("b", "c"), 10)


def test_bound_of_equal_blocks_counts_heads_and_spared_gradients():
    stages = [stage("a", into=0.0, head=0.3), stage("b", head=0.1)]
    blocks = cut_by_time(stages, 2)
    bound = bound_of(blocks)
    bp = 2.0 + 3.0 + 0.1
    assert backpropagation_s(blocks) == pytest.approx(bp)
    assert bound.heads == pytest.approx(0.3 / bp) and bound.spared == pytest.approx(1.0 / bp)
    assert bound.imbalance == pytest.approx(2.3 / 2.2)
    slowest = max(block.local_s for block in blocks)
    assert bound.speedup == pytest.approx(bp / slowest)
    formula = 2 / ((1 + bound.heads - bound.spared) * bound.imbalance)
    assert bound.speedup == pytest.approx(formula)


def test_cut_makes_the_slowest_block_as_fast_as_possible():
    stages = [stage(str(n), forward=f, backward=0.0, into=0.0) for n, f in enumerate([1, 1, 5, 1])]
    slowest = [max(b.local_s for b in cut_by_time(stages, count)) for count in (1, 2, 3, 4)]
    assert slowest == [8, 6, 5, 5]
    assert cut_evenly(3, 3, lambda m, n: n - m) == [0, 1, 2]
    with pytest.raises(ConfigError, match="5 blocks do not fit a network of 4 stages"):
        cut_by_time(stages, 5)


def test_other_times_go_into_the_same_blocks():
    blocks = cut_by_time([stage("a", forward=6.0), stage("b"), stage("c")], 2)
    slower = [stage(name, forward=f) for name, f in (("a", 1.0), ("b", 7.0), ("c", 9.0))]
    again = cut_like(blocks, slower)
    assert [block.stages for block in again] == [("a",), ("b", "c")]
    assert [block.forward_s for block in again] == [1.0, 16.0]


def test_profile_times_every_stage_and_leaves_no_gradient():
    config = make_config("cnn3d_light")
    stack = build_model(config)
    inputs, ages = random_batch(config)
    stages = profile_stages(stack, inputs, ages, build_target(config.target), repeats=1)
    assert len(stages) == 3 and stages[0].input_gradient_s == 0.0
    assert all(s.forward_s > 0 and s.backward_s > 0 and s.head_s > 0 for s in stages)
    assert [s.output_elements for s in stages] == [4 * 4 * 512, 4 * 8 * 64, 4 * 8 * 8]
    assert all(p.grad is None for p in stack.parameters())
    assert torch.is_grad_enabled()
