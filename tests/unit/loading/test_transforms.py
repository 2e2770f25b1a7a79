"""Normalisation and augmentation."""

import pytest
import torch

from brainage.config import AugmentationConfig
from brainage.loading.transforms import build_augmentation, change_contrast

OFF = AugmentationConfig(flip_probability=0, affine_probability=0, noise_probability=0)


def make_volume() -> torch.Tensor:
    volume = torch.zeros(1, 10, 12, 14)
    volume[:, 2:8, 2:10, 2:12] = torch.randn(6, 8, 10, generator=torch.Generator().manual_seed(0))
    return volume


def augment(volume: torch.Tensor, seed: int = 0, **switched_on: float) -> torch.Tensor:
    change = build_augmentation(OFF.model_copy(update=switched_on), spacing_mm=4.0)
    assert change is not None
    torch.manual_seed(seed)
    return change(volume)


def test_nothing_switched_on_gives_no_augmentation() -> None:
    assert build_augmentation(OFF, spacing_mm=4.0) is None


def test_the_flip_mirrors_left_and_right_only() -> None:
    volume = make_volume()
    assert torch.equal(augment(volume, flip_probability=1.0), volume.flip(1))


@pytest.mark.parametrize(
    "name",
    [
        "affine_probability", "bias_probability", "noise_probability", "blur_probability",
        "motion_probability",
    ],
)  # fmt: skip
def test_every_transform_changes_the_volume_and_follows_the_seed(name: str) -> None:
    volume = make_volume()
    first, again, other = (augment(volume, seed, **{name: 1.0}) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, volume)
    assert torch.isfinite(first).all()


def test_the_input_is_left_alone() -> None:
    volume = make_volume()
    before = volume.clone()
    augment(volume, flip_probability=1.0, affine_probability=1.0, noise_probability=1.0)
    assert torch.equal(volume, before)


def test_plain_contiguous_float32_leaves() -> None:
    changed = augment(make_volume(), flip_probability=1.0, affine_probability=1.0)
    assert type(changed) is torch.Tensor
    assert changed.is_contiguous()
    assert changed.dtype == torch.float32


def test_the_background_stays_zero() -> None:
    volume = make_volume()
    changed = augment(volume, noise_probability=1.0, bias_probability=1.0, blur_probability=1.0)
    assert not changed[volume == 0].any()


def test_shifts_are_millimetres() -> None:
    volume = torch.zeros(1, 20, 20, 20)
    volume[:, 10, 10, 10] = 1
    config = OFF.model_copy(update={"affine_probability": 1.0, "max_shift_mm": 8.0})
    still = config.model_copy(update={"max_rotation_degrees": 0.0, "max_scale": 0.0})
    change = build_augmentation(still, spacing_mm=4.0)
    assert change is not None
    furthest = 0.0
    for seed in range(40):
        torch.manual_seed(seed)
        moved = change(volume)[0]
        place = torch.nonzero(moved).double() - 10
        weights = moved[moved != 0].double()
        centre = (place * weights[:, None]).sum(0) / weights.sum()
        furthest = max(furthest, float(centre.abs().max()))
    assert 1.5 < furthest <= 2.01


def test_changed_contrast_keeps_order_ends_and_background():
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 6, 6, 6, generator=generator)
    volume[:, :2] = 0
    changed = change_contrast(volume, torch.tensor([1.0, -1.0, 0.5, 0.0]))
    inside = volume != 0
    before, after = volume[inside], changed[inside]
    assert (changed[~inside] == 0).all() and not torch.allclose(before, after, atol=0.1)
    assert torch.equal(before.argsort(), after.argsort())
    torch.testing.assert_close(torch.stack(before.aminmax()), torch.stack(after.aminmax()))


def test_level_slopes_change_nothing():
    volume = torch.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    torch.testing.assert_close(change_contrast(volume, torch.zeros(3)), volume)


def test_contrast_is_switched_on_by_its_probability():
    off = {"flip_probability": 0.0, "affine_probability": 0.0, "noise_probability": 0.0}
    assert build_augmentation(AugmentationConfig(**off), 4.0) is None
    augment = build_augmentation(AugmentationConfig(**off, contrast_probability=1.0), 4.0)
    volume = torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(augment(volume), volume)
