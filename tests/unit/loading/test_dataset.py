"""What the loaders hand to training."""

import numpy as np
import pytest
import torch

from brainage.errors import ShapeError
from brainage.loading.dataset import ScanLoader, build_dataset, build_loader


def make_dataset(scans: int = 7, augmentation=None):
    arrays = np.arange(scans, dtype=np.float16)[:, None, None, None] + np.zeros((4, 5, 6), "f2")
    ids = [f"s{index}" for index in range(scans)]
    return build_dataset(arrays, np.arange(scans) + 20.0, ids, augmentation)


def order(loader) -> list[int]:
    return [int(index) for batch in loader for index in batch["index"]]


def test_batches_are_plain_tensors_of_the_promised_shapes() -> None:
    loader = build_loader(make_dataset(), 3, False, torch.Generator())
    batch = next(iter(loader))
    assert type(batch) is dict
    assert {
        key: (type(value), value.dtype, tuple(value.shape)) for key, value in batch.items()
    } == {
        "inputs": (torch.Tensor, torch.float32, (3, 1, 4, 5, 6)),
        "target": (torch.Tensor, torch.float32, (3,)),
        "index": (torch.Tensor, torch.int64, (3,)),
    }


def test_volume_age_and_index_stay_together_when_shuffled() -> None:
    loader = build_loader(make_dataset(), 3, True, torch.Generator().manual_seed(1))
    for batch in loader:
        assert torch.equal(batch["inputs"][:, 0, 0, 0, 0], batch["index"].float())
        assert torch.equal(batch["target"], batch["index"].float() + 20)


def test_the_generator_alone_decides_the_order() -> None:
    first, again, other = (
        order(build_loader(make_dataset(20), 4, True, torch.Generator().manual_seed(seed)))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_building_a_loader_moves_no_generator() -> None:
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    before, before_global = generator.get_state(), torch.get_rng_state()
    build_loader(make_dataset(), 3, True, generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), before_global)


def test_epochs_differ_and_a_restored_generator_repeats_the_next() -> None:
    generator = torch.Generator().manual_seed(0)
    first = order(build_loader(make_dataset(20), 4, True, generator))
    state = generator.get_state()
    second = order(build_loader(make_dataset(20), 4, True, generator))
    restored = torch.Generator()
    restored.set_state(state)
    assert first != second
    assert order(build_loader(make_dataset(20), 4, True, restored)) == second


@pytest.mark.parametrize(("scans", "shuffle", "used"), [(7, True, 6), (8, True, 8), (7, False, 7)])
def test_training_leaves_out_a_last_batch_of_one_only(scans: int, shuffle: bool, used: int) -> None:
    loader = build_loader(make_dataset(scans), 3, shuffle, torch.Generator())
    assert len(order(loader)) == used


def test_one_scan_can_be_trained_on_when_asked() -> None:
    assert order(build_loader(make_dataset(1), 8, True, torch.Generator())) == [0]
    assert len(order(build_loader(make_dataset(3), 1, True, torch.Generator()))) == 3


def test_augmentation_is_applied_anew_at_each_access() -> None:
    dataset = make_dataset(2, augmentation=lambda volume: volume + torch.rand(1))
    assert not torch.equal(dataset[0]["inputs"], dataset[0]["inputs"])


def test_loader_processes_give_the_same_batches() -> None:
    alone, helped = (
        order(build_loader(make_dataset(9), 4, True, torch.Generator().manual_seed(0), processes))
        for processes in (0, 1)
    )
    assert alone[:8] == helped[:8]


def test_mismatched_ages_are_refused() -> None:
    with pytest.raises(ShapeError, match="N ages and ids"):
        build_dataset(np.zeros((3, 4, 5, 6), "f2"), [1.0, 2.0], ["a", "b", "c"])


@pytest.mark.parametrize(("scans", "shuffled"), [(9, True), (9, False), (8, True), (1, True)])
def test_the_plain_loader_gives_what_the_dataset_gives(scans: int, shuffled: bool) -> None:
    arrays = np.random.default_rng(0).normal(size=(scans, 2, 3, 4)).astype(np.float16)
    ages = list(range(20, 20 + scans))
    generator = torch.Generator().manual_seed(1) if shuffled else None
    loader = ScanLoader(arrays, ages, 4, generator, lambda volumes: volumes.float() + 1)
    batches = list(loader)
    dropped = shuffled and scans == 9
    assert len(batches) == len(loader) == (2 if dropped else -(-scans // 4))
    for batch in batches:
        index = batch["index"].numpy()
        expected = torch.from_numpy(arrays[index].astype(np.float32))[:, None] + 1
        assert torch.equal(batch["inputs"], expected) and batch["inputs"].dtype == torch.float32
        assert batch["target"].tolist() == [ages[n] for n in index]
    seen = [int(n) for batch in batches for n in batch["index"]]
    assert len(set(seen)) == len(seen) == scans - dropped
    assert (seen == sorted(seen)) == (not shuffled or scans == 1)
