import pytest
import torch
from torch import nn

from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockStack, LocalBlock, cut_evenly
from brainage.lfnn.parallel import profile
from brainage.lfnn.parallel.profile import (
    StageTimes,
    backpropagation_s,
    bound_of,
    cut_by_time,
    cut_like,
    join_stages,
    profile_stages,
)
from brainage.lfnn.targets import Classes
from brainage.lfnn.workers import WorkerHead
from brainage.model.build import build_model, build_target
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


def test_a_profile_holds_medians_of_all_passes_but_the_first(monkeypatch):
    stack = build_model(make_config("cnn3d_light"))
    rows = [(99.0,) * 5, (3.0, 4, 9, 1, 2), (1.0, 8, 9, 5, 2), (2.0, 6, 5, 3, 2)] * 3
    given = iter(rows)
    monkeypatch.setattr(profile, "_time_stage", lambda *_: next(given))
    stages = profile_stages(stack.eval(), torch.zeros(2, 1, 16, 16, 16), None, None, repeats=3)
    expected = [("0", 2.0, 6, 0.0, 3, 2), ("1", 2.0, 6, 3, 3, 2), ("2", 2.0, 6, 3, 3, 2)]
    assert [tuple(vars(s).values())[:6] for s in stages] == expected
    assert [s.parameters for s in stages] == [
        sum(p.numel() for p in block.body.parameters()) for block in stack.blocks
    ]
    given = iter([(1.0, 5, 4, 1, 1)] * 18)
    slower = profile_stages(stack, torch.zeros(2, 1, 16, 16, 16), None, None)
    assert [s.input_gradient_s for s in slower] == [0.0] * 3 and stack.training
    assert next(given, None) is None


def test_each_part_of_a_stage_is_timed_once_and_what_it_lacks_costs_nothing(monkeypatch):
    clock, learnt = iter(range(1, 99)), []

    def timed(work):
        return work(), next(clock)

    monkeypatch.setattr(profile, "timed", timed)
    bodies = [nn.Sequential(nn.Identity()), nn.Sequential(nn.Linear(4, 4))]
    stack = BlockStack([LocalBlock(b, WorkerHead((4,), 2, norm="none")) for b in bodies])
    for block in stack.blocks:
        block.head.weight.register_hook(learnt.append)
    weights = bodies[1][0].weight.detach().clone()
    inputs, labels = torch.randn(3, 4), torch.tensor([0, 1, 1])
    assert profile._time_stage(stack, 0, inputs, labels, Classes(2)) == (1, 0.0, 2, 3, 0.0)
    assert profile._time_stage(stack, 1, inputs, labels, Classes(2)) == (4, 5, 6, 7, 8)
    assert len(learnt) == 2 and all(p.grad is None for p in stack.parameters())
    torch.testing.assert_close(bodies[1][0].weight, weights, atol=1e-9, rtol=0)


def test_work_is_timed_from_its_start_to_its_end(monkeypatch):
    clock = iter([2.0, 7.5])
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
    assert profile.timed(lambda: "done") == ("done", 5.5)
