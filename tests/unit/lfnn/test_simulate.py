"""Recurrences against cases that can be worked out by hand."""

import pytest

from brainage.lfnn.parallel.profile import BlockTimes
from brainage.lfnn.parallel.simulate import (
    Link,
    data_parallel_epoch_s,
    group_on_devices,
    microbatched_epoch_s,
    one_device_epoch_s,
    pipelined_epoch_s,
)


def block(forward=1.0, rest=2.0, into=0.0, head=0.0, elements=1000, parameters=0):
    return BlockTimes(("s",), forward, rest, into, head, elements, parameters)


def test_equal_blocks_fill_the_pipeline_with_forward_passes_and_then_flow():
    # Device 2 begins after two forwards; from there on a batch every 3 s.
    assert pipelined_epoch_s([block()] * 3, 3, steps=10) == pytest.approx(2 * 1.0 + 10 * 3.0)


def test_one_device_runs_block_after_block():
    assert pipelined_epoch_s([block(), block(2.0, 3.0)], 1, steps=4) == pytest.approx(4 * 8.0)


def test_the_slowest_block_sets_the_pace_and_holds_back_those_before_it():
    blocks = [block(), block(5.0, 5.0), block()]
    assert pipelined_epoch_s(blocks, 3, steps=50) == pytest.approx(1.0 + 50 * 10.0 - 5.0 + 3.0)


def test_messages_delay_the_start_but_not_the_pace():
    link = Link(latency_s=0.5, bytes_per_s=8000.0)  # 4000 bytes: 1 s in all
    fast, slow = (pipelined_epoch_s([block()] * 2, 2, 20, wire) for wire in (None, link))
    assert slow - fast == pytest.approx(1.0)


def test_a_sender_does_not_run_ahead_of_its_receiver_without_end():
    blocks = [block(0.1, 0.1), block(5.0, 5.0)]
    # The last batch cannot even be handed on before its receiver has begun the one four before.
    assert pipelined_epoch_s(blocks, 2, 30) == pytest.approx(0.1 + 30 * 10.0)


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 4), (4, 8), (3, 2)])
def test_one_forward_one_backward_takes_the_known_time(stages, microbatches):
    # M + K − 1 slots of one microbatch's forward and backward, for equal stages
    blocks = [block(1.0, 2.0)] * 1 + [block(1.0, 1.0, into=1.0) for _ in range(stages - 1)]
    seconds = microbatched_epoch_s(blocks, stages, 3, microbatches)
    assert seconds == pytest.approx(3 * 3.0 * (microbatches + stages - 1) / microbatches)


def test_data_parallel_shares_the_work_and_pays_for_the_ring():
    blocks = [block(parameters=1000), block(parameters=1000)]
    assert data_parallel_epoch_s(blocks, 2, 5) == pytest.approx(0.5 * one_device_epoch_s(blocks, 5))
    link = Link(latency_s=0.0, bytes_per_s=4000.0)
    # 2 rounds of half of 2000 numbers of 4 bytes
    assert data_parallel_epoch_s(blocks, 2, 5, link) == pytest.approx(5 * (3.0 + 2.0))
    slower = Link(latency_s=0.25, bytes_per_s=4000.0, reduced_bytes_per_s=2000.0)
    assert data_parallel_epoch_s(blocks, 2, 5, slower) == pytest.approx(5 * (3.0 + 4.0 + 0.5))
    assert data_parallel_epoch_s(blocks, 1, 5, slower) == one_device_epoch_s(blocks, 5)


def test_hidden_heads_cost_local_learning_only_and_spared_gradients_backpropagation_only():
    blocks = [block(1.0, 3.0, head=1.0), block(1.0, 2.0, into=0.5, head=0.25)]
    assert one_device_epoch_s(blocks, 1) == pytest.approx(1 + 2 + 1 + 2 + 0.5)


def test_neighbours_share_a_device_when_there_are_too_few():
    groups = group_on_devices([block(1, 0), block(1, 0), block(4, 0), block(1, 0)], 2)
    assert [len(group) for group in groups] == [2, 2]
    assert len(group_on_devices([block()], 4)) == 1
