"""What the loaders hand to training."""

import monai.data
import numpy as np
import pytest
import torch

from brainage.config import Config
from brainage.errors import ConfigError, ImageDataError, ShapeError
from brainage.loading.dataset import BatchLoader
from brainage.loading.scans import PreparedScans, build_scan_loader, to_float

ALL_ON = {
    "flip_probability": 0.5,
    "affine_probability": 0.5,
    "contrast_probability": 0.5,
    "bias_probability": 0.5,
    "noise_probability": 0.5,
    "blur_probability": 0.5,
    "motion_probability": 0.3,
    "extra": [
        {"name": "torchio.RandomGamma", "keeps_background": True},
        {"name": "monai.transforms.RandGibbsNoise", "arguments": {"prob": 0.5}},
        {"name": "tests.unit.loading.own.AddNumpyNoise"},
    ],
}


def make_arrays(scans: int = 7) -> np.ndarray:
    return np.arange(scans, dtype=np.float16)[:, None, None, None] + np.zeros((4, 5, 6), "f2")


def make_loader(scans=7, batch_size=3, seed=None, augmentation=None, processes=0):
    config = Config.model_validate(
        {
            "network": {"name": "cnn3d_light"},
            "augmentation": augmentation or {},
            "training": {"batch_size": batch_size, "loader_processes": processes},
        }
    )
    shuffle = None if seed is None else torch.Generator().manual_seed(seed)
    ages, augments = np.arange(scans) + 20.0, augmentation is not None
    return build_scan_loader(make_arrays(scans), ages, config, shuffle, augments=augments)


def order(loader) -> list[int]:
    return [int(index) for batch in loader for index in batch["index"]]


def test_batches_are_plain_tensors_of_the_promised_shapes() -> None:
    for batch in (next(iter(make_loader())), next(iter(make_loader(augmentation=ALL_ON)))):
        assert {
            key: (type(value), value.dtype, tuple(value.shape)) for key, value in batch.items()
        } == {
            "inputs": (torch.Tensor, torch.float32, (3, 1, 4, 5, 6)),
            "target": (torch.Tensor, torch.float32, (3,)),
            "index": (torch.Tensor, torch.int64, (3,)),
        }


def test_monai_loads() -> None:
    loader = make_loader()
    assert isinstance(loader, monai.data.DataLoader)
    assert isinstance(loader.dataset, monai.data.Dataset) and len(loader.dataset) == 7


def test_volume_age_and_index_stay_together_when_shuffled() -> None:
    for batch in make_loader(seed=1):
        assert torch.equal(batch["inputs"][:, 0, 0, 0, 0], batch["index"].float())
        assert torch.equal(batch["target"], batch["index"].float() + 20)


def test_the_generator_alone_decides_the_order() -> None:
    first, again, other = (order(make_loader(20, 4, seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_building_a_loader_moves_no_generator() -> None:
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    loader = make_loader(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is random here
    list(make_loader(augmentation=ALL_ON))
    assert np.array_equal(np.random.get_state()[1], before_numpy)


def test_epochs_differ_and_a_restored_generator_repeats_the_next() -> None:
    shuffle = torch.Generator().manual_seed(0)
    loader = BatchLoader(PreparedScans(make_arrays(20), [0.0] * 20), to_float, 4, shuffle)
    first, state = order(loader), shuffle.get_state()
    second = order(loader)
    shuffle.set_state(state)
    assert first != second == order(loader)


@pytest.mark.parametrize(("scans", "seed", "used"), [(7, 0, 6), (8, 0, 8), (7, None, 7)])
def test_training_leaves_out_a_last_batch_of_one_only(scans, seed, used) -> None:
    loader = make_loader(scans, 3, seed)
    assert len(order(loader)) == used and len(loader) == -(-used // 3)


def test_one_scan_can_be_trained_on_when_asked() -> None:
    assert order(make_loader(1, 8, 0)) == [0]
    assert len(order(make_loader(3, 1, 0))) == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_any_number_of_loader_processes_gives_the_same_bits(processes) -> None:
    def epochs(processes: int) -> list[dict[str, torch.Tensor]]:
        torch.manual_seed(5)
        loader = make_loader(9, 2, 0, ALL_ON, processes)
        return [batch for _ in range(2) for batch in loader]

    alone, helped = epochs(0), epochs(processes)
    assert len(alone) == len(helped) == 8
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert not torch.equal(one["inputs"][:, 0, 0, 0, 0], one["index"].float())  # changed


def test_a_scan_is_changed_alike_in_any_batch() -> None:
    changed = []
    for batch_size in (2, 5):
        torch.manual_seed(1)
        batches = list(make_loader(5, batch_size, None, ALL_ON))
        changed.append(torch.cat([batch["inputs"] for batch in batches]))
    assert torch.equal(*changed)


def test_scans_are_changed_anew_each_time() -> None:
    loader = make_loader(2, 2, 0, {"noise_probability": 1.0})
    first, second = (next(iter(loader))["inputs"] for _ in range(2))
    assert not torch.equal(first, second)


class Broken(PreparedScans):
    def __getitem__(self, draw):
        raise ImageDataError("a.png", "is not a readable image.", "Mend it.")


@pytest.mark.parametrize("processes", [0, 1])
def test_errors_arrive_whole_from_any_process(processes) -> None:
    loader = BatchLoader(Broken(make_arrays(), [0.0] * 7), to_float, 4, processes=processes)
    with pytest.raises(ImageDataError) as caught:
        list(loader)
    assert caught.value.where == "a.png" and caught.value.remedy == "Mend it."
    crop = {"extra": [{"name": "torchio.Crop", "arguments": {"cropping": 1}}]}
    with pytest.raises(ConfigError, match="shape"):
        list(make_loader(augmentation=crop, processes=processes))


def test_mismatched_ages_are_refused() -> None:
    with pytest.raises(ShapeError):
        PreparedScans(np.zeros((3, 4, 5, 6), "f2"), [1.0, 2.0])


def test_a_copy_takes_a_scan_s_place_in_half_of_the_draws():
    copies = np.arange(4, dtype=np.float16)[:, None, None, None] + np.zeros((2, 4, 4, 5, 6), "f2")
    scans = PreparedScans(copies, [50.0, 60.0])
    index = torch.arange(2).repeat(500)
    assert (scans[{"index": index}]["inputs"] == 0).all(), "validation sees the scans themselves"
    draw = {"index": index, "seeds": torch.arange(1000)}
    chosen = scans[draw]["inputs"][:, 0, 0, 0, 0].numpy()
    counts = np.bincount(chosen.astype(int), minlength=4)
    assert 450 < counts[0] < 550 and (counts[1:] > 120).all()
    assert np.array_equal(scans[draw]["inputs"][:, 0, 0, 0, 0].numpy(), chosen)


def test_whether_a_copy_is_drawn_tells_nothing_of_the_change_that_follows():
    copies = np.zeros((1, 2, 4, 5, 6), np.float16)
    copies[:, 1] = 1
    draw = {"index": torch.zeros(2000, dtype=torch.int64), "seeds": torch.arange(2000)}
    is_copy = PreparedScans(copies, [50.0])[draw]["inputs"][:, 0, 0, 0, 0] == 1
    first = torch.tensor([torch.rand((), generator=torch.manual_seed(n)) for n in range(2000)])
    assert abs(np.corrcoef(is_copy, first)[0, 1]) < 0.1
