"""Augmentation of a whole batch, held against TorchIO and against geometry."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torchio
from scipy import ndimage

from brainage.config import AugmentationConfig
from brainage.loading.augment import (
    apply,
    bias_field,
    build_batch_augmentation,
    draw,
    draw_noise,
)
from brainage.loading.resample import resample

OFF = AugmentationConfig(flip_probability=0, affine_probability=0, noise_probability=0)
SIZE = (14, 18, 12)


def volumes(count=3):
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(count, 1, *SIZE, generator=generator) + 0.5
    smooth = torch.from_numpy(ndimage.gaussian_filter(noise.numpy(), (0, 0, 1.5, 1.5, 1.5)))
    brain = torch.zeros(SIZE)
    brain[3:-3, 4:-4, 3:-3] = 1
    return smooth * brain


def nothing(count):
    return draw(OFF, count, 1.0)


def change(config, seed=0, count=3, spacing_mm=1.0):
    torch.manual_seed(seed)
    return build_batch_augmentation(config, spacing_mm)(volumes(count))


def test_all_switched_off_is_no_augmentation():
    assert build_batch_augmentation(OFF, 2.0) is None
    assert torch.equal(apply(volumes(), nothing(3)), volumes())


@pytest.mark.parametrize(
    "switched_on",
    [
        {"flip_probability": 1},
        {"affine_probability": 1},
        {"bias_probability": 1},
        {"noise_probability": 1},
        {"blur_probability": 1},
    ],
)
def test_each_change_follows_the_seed_and_leaves_input_and_background_alone(switched_on):
    config = OFF.model_copy(update=switched_on)
    one, same, other = change(config), change(config), change(config, seed=1)
    assert torch.equal(one, same) and not torch.equal(one, volumes())
    assert "flip_probability" in switched_on or not torch.equal(one, other)
    assert one.dtype == torch.float32 and one.is_contiguous()
    assert (one[..., 0] == 0).all() or "affine_probability" in switched_on


def test_the_flip_mirrors_the_first_axis_of_some():
    drawn = dataclasses.replace(nothing(3), flips=torch.tensor([True, False, True]))
    result, source = apply(volumes(), drawn), volumes()
    assert torch.equal(result[0, 0], source[0, 0].flip(0))
    assert torch.equal(result[1], source[1]) and torch.equal(result[2, 0], source[2, 0].flip(0))


def test_the_placement_is_the_drawn_one_in_voxels():
    config = OFF.model_copy(
        update={
            "affine_probability": 1.0,
            "max_rotation_degrees": 20.0,
            "max_scale": 0.2,
            "max_shift_mm": 4.0,
        }
    )
    torch.manual_seed(1)
    drawn, source = draw(config, 3, 2.0), volumes()
    result = apply(source, drawn)
    assert drawn.shift_voxels.abs().max() <= 2.0  # 4 mm at 2 mm
    for number in range(3):
        matrix, shift = drawn.matrix[number], drawn.shift_voxels[number]
        assert torch.equal(result[number, 0], resample(source[number, 0], matrix, shift))


def test_rotations_and_scales_have_the_promised_size():
    config = OFF.model_copy(update={"max_rotation_degrees": 10.0, "max_scale": 0.0})
    matrix = draw(config, 500, 1.0).matrix
    assert torch.allclose(matrix @ matrix.mT, torch.eye(3).expand(500, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(500), atol=1e-5)
    about_i = torch.atan2(matrix[:, 2, 1], matrix[:, 2, 2]).abs().max() * 180 / math.pi
    assert 9.5 < about_i <= 10.0 + 1e-3
    volume = torch.linalg.det(draw(OFF.model_copy(update={"max_scale": 0.1}), 500, 1.0).matrix)
    assert 0.7 < volume.min() < 0.95 and 1.05 < volume.max() < 1.4


def test_the_bias_field_is_torchios():
    coefficients = torch.zeros(1, 4, 4, 4)
    listed = [0.1 * n - 0.7 for n in range(20)]
    numbers = iter(listed)
    for i in range(4):
        for j in range(4 - i):
            for k in range(4 - i - j):
                coefficients[0, i, j, k] = next(numbers)
    found = bias_field(coefficients[0], torch.Size(SIZE)).numpy()
    ones = torch.ones(1, *SIZE)
    transform = torchio.BiasField(order=3, coefficients=listed)
    theirs = transform(torchio.ScalarImage(tensor=ones)).numpy()[0]
    assert np.allclose(found, theirs, rtol=1e-3)


def test_noise_has_the_drawn_deviation_inside_the_brain_only():
    drawn = dataclasses.replace(nothing(3), noise_std=torch.tensor([0.0, 0.2, 0.5]))
    torch.manual_seed(0)
    source = volumes()
    difference = apply(source, drawn) - source
    inside = source != 0
    spread = [float(difference[n][inside[n]].std()) for n in range(3)]
    assert spread == pytest.approx([0.0, 0.2, 0.5], abs=0.05)
    assert (difference[~inside] == 0).all()


def test_noise_is_normal_follows_the_seed_and_no_two_volumes_share_it():
    torch.manual_seed(0)
    one, other = (draw_noise(torch.empty(1, 61, 50, 33)) for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(one, draw_noise(torch.empty(1, 61, 50, 33)))
    assert abs(float((one * other).mean())) < 0.02
    moments = [float((one**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0.0, 1.0, 0.0, 3.0], abs=0.06)
    assert float(one.abs().max()) < 5 and bool(one.isfinite().all())


def test_half_precision_gives_what_single_precision_gives():
    config = OFF.model_copy(
        update={"flip_probability": 1.0, "affine_probability": 1.0, "noise_probability": 1.0}
    )
    halves = volumes().half()
    torch.manual_seed(2)
    drawn = draw(config, 3, 2.0)
    results = []
    for source in (halves, halves.float()):
        torch.manual_seed(5)
        results.append(apply(source, drawn))
    assert results[0].dtype == torch.float32 and torch.equal(*results)
