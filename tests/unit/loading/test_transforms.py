"""Our transforms against TorchIO's own, from the same seeds and in distribution."""

import numpy as np
import pytest
import torch
import torchio
from scipy import ndimage

from brainage.loading.transforms import (
    RandomAffine,
    RandomBiasField,
    RandomContrast,
    RandomEdge,
    RandomFlip,
    RandomNoise,
    RandomSharpness,
    bend,
    normal_noise,
)

SIZE = (24, 28, 22)
PLACED = {"scales": 0.1, "degrees": 15, "translation": 3, "default_pad_value": 0.0}


def make_volume() -> torch.Tensor:
    """A smooth brain (1, I, J, K), 0 around."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(SIZE, generator=generator).numpy()
    brain = np.zeros(SIZE)
    brain[5:-5, 5:-5, 5:-5] = 1
    smooth = ndimage.gaussian_filter((1 + 3 * noise) * brain, 1.5)
    return torch.from_numpy(np.where(smooth > 0.05, smooth, 0)).float()[None]


def changed(transform, seed: int, volume: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(seed)
    return transform(volume)


@pytest.mark.parametrize(
    ("ours", "theirs", "most"),
    [
        (RandomFlip(axes=(0, 2)), torchio.RandomFlip(axes=(0, 2)), 0.0),
        (RandomBiasField(p=0.8), torchio.RandomBiasField(p=0.8), 1e-5),
        (RandomAffine(**PLACED, p=0.8), torchio.RandomAffine(**PLACED, p=0.8), 0.02),
    ],
)
def test_one_seed_gives_torchios_image(ours, theirs, most) -> None:
    volume, seen = make_volume(), 0
    for seed in range(12):
        found, expected = (changed(transform, seed, volume) for transform in (ours, theirs))
        moved = (expected - volume).square().mean().sqrt()
        assert (found - expected).square().mean().sqrt() <= most * moved
        seen += bool(moved > 0)
    assert 6 <= seen <= 12


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_torchios_moments_inside_the_head(seed) -> None:
    volume = (make_volume() > 0).float().expand(1, *SIZE)
    noises = [
        (changed(kind(std=(0.1, 0.3), mean=0.2), seed, volume) - volume)[volume > 0]
        for kind in (RandomNoise, torchio.RandomNoise)
    ]
    for found, expected in zip(*map(moments, noises), strict=True):
        assert found == pytest.approx(expected, abs=0.05)


def moments(values: torch.Tensor) -> list[float]:
    """Mean, deviation, and skewness and kurtosis around them."""
    mean, std = values.mean(), values.std()
    scaled = (values - mean) / std
    return [float(v) for v in (mean, std, 0.3 * scaled.pow(3).mean(), 0.1 * scaled.pow(4).mean())]


def test_the_chain_has_torchios_mean_and_spread_at_every_voxel() -> None:
    volume, inside = make_volume(), make_volume() > 0

    def draw(kinds, seeds):
        flip, affine, bias, noise = kinds
        placed = PLACED | {"translation": 1.0, "degrees": 5}
        steps = [flip(axes=(0,)), affine(**placed, p=0.5), bias(p=0.5), noise(p=0.5)]
        return torch.stack([changed(torchio.Compose(steps), seed, volume) for seed in seeds])

    names = ("RandomFlip", "RandomAffine", "RandomBiasField", "RandomNoise")
    ours = draw((RandomFlip, RandomAffine, RandomBiasField, RandomNoise), range(150))
    theirs = draw([getattr(torchio, name) for name in names], range(1000, 1150))
    error = theirs.std(0)[inside] * (2 / 150) ** 0.5
    off = (ours.mean(0) - theirs.mean(0))[inside] / error.clamp(min=1e-3)
    assert off.square().mean() < 2.0  # 1 on average if they are the same
    ratio = ours.std(0)[inside].mean() / theirs.std(0)[inside].mean()
    assert ratio == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    "transform",
    [RandomFlip(flip_probability=1), RandomAffine(), RandomBiasField(), RandomNoise()],
    ids=lambda transform: transform.name,
)
def test_bare_tensors_and_subjects_are_taken_and_left_as_they_are(transform) -> None:
    volume = make_volume()
    result = changed(transform, 0, volume)
    assert type(result) is torch.Tensor and result.shape == volume.shape
    assert torch.equal(volume, make_volume()) and not torch.equal(result, volume)
    subject = torchio.Subject(t1=torchio.ScalarImage(tensor=volume))
    assert transform(subject)["t1"].shape == volume.shape
    halves = changed(transform, 0, volume.half()).float()
    assert torch.equal(halves, changed(transform, 0, volume.half().float()))


def test_the_background_stays_zero() -> None:
    volume = make_volume()
    for transform in (RandomNoise(), RandomBiasField(), RandomContrast(0.5)):
        assert not changed(transform, 1, volume)[volume == 0].any()


def test_noise_is_normal_follows_the_seed_and_no_number_of_threads_moves_a_bit() -> None:
    shape, before = torch.Size((1, 61, 50, 33)), torch.get_num_threads()
    one, other = normal_noise(shape, 1), normal_noise(shape, 2)
    torch.set_num_threads(before + 2)
    assert torch.equal(one, normal_noise(shape, 1))
    torch.set_num_threads(before)
    assert abs(float((one * other).mean())) < 0.02
    moments = [float((one**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0.0, 1.0, 0.0, 3.0], abs=0.06)
    assert float(one.abs().max()) < 5 and bool(one.isfinite().all())


def test_changed_contrast_keeps_order_ends_and_background() -> None:
    volume = torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    volume[:, :2] = 0
    result, inside = bend(volume, torch.tensor([1.0, -1.0, 0.5, 0.0])), volume != 0
    before, after = volume[inside], result[inside]
    assert (result[~inside] == 0).all() and not torch.allclose(before, after, atol=0.1)
    assert torch.equal(before.argsort(), after.argsort())
    torch.testing.assert_close(torch.stack(before.aminmax()), torch.stack(after.aminmax()))


def test_level_slopes_change_nothing() -> None:
    volume = torch.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    torch.testing.assert_close(bend(volume, torch.zeros(3)), volume)


def test_sharpness_moves_detail_both_ways_and_leaves_even_places_alone() -> None:
    volume = torch.zeros(1, *SIZE)
    volume[:, 4:-4, 4:-4, 4:-4] = 2
    inside = volume != 0
    # Even up to the edge: what lies outside does not count as dark neighbours.
    even = changed(RandomSharpness(1.0), 0, volume)
    torch.testing.assert_close(even, volume)
    volume[0, 10, 10, 10] = 10
    peaks = [
        float(changed(RandomSharpness(0.5), seed, volume)[0, 10, 10, 10]) for seed in range(40)
    ]
    detail = 8 * (1 - 1 / 8)
    assert 10 - detail / 2 <= min(peaks) < 8 and 12 < max(peaks) <= 10 + detail / 2
    assert not changed(RandomSharpness(0.5), 0, volume)[~inside].any()


def test_an_edge_is_taken_off_up_to_the_size_and_no_further() -> None:
    volume = torch.zeros(1, *SIZE)
    volume[:, 4:-4, 4:-4, 4:-4] = -3
    depth = torch.from_numpy(ndimage.distance_transform_cdt(volume[0] != 0)).float()
    thickness = []
    for seed in range(40):
        kept = changed(RandomEdge(2.5), seed, volume)[0] / -3
        assert ((kept == 1) | (depth <= 3)).all() and kept.min() >= 0
        thickness.append(sum(1 - float(kept[depth == layer].mean()) for layer in (1, 2, 3)))
        assert kept[depth == 1].max() <= kept[depth == 2].min() <= kept[depth == 3].min()
    assert min(thickness) < 0.5 and 2.0 < max(thickness) <= 2.5
