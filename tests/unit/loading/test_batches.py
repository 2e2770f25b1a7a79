import torch

from brainage.loading.batches import count_batches, draw_batches


def test_single_left_over_sample_is_dropped_only_while_training():
    assert count_batches(9, 4, trains=True) == 2
    assert count_batches(9, 4, trains=False) == 3


def test_two_left_over_samples_stay_and_so_does_an_only_one():
    assert count_batches(10, 4, trains=True) == 3
    assert count_batches(1, 4, trains=True) == 1


def test_shuffled_batches_hold_each_sample_once():
    batches = draw_batches(10, 4, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    drawn = torch.cat(batches).tolist()
    assert sorted(drawn) == list(range(10))
    assert drawn != list(range(10))


def test_batches_without_a_generator_keep_order_and_lose_nothing():
    batches = draw_batches(9, 4, None)
    assert torch.cat(batches).tolist() == list(range(9))
