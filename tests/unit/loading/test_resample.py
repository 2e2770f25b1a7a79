"""Two passes by planes against trilinear interpolation, SciPy and analytic images."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainage.loading.resample import resample, resample_at_once, resample_by_planes

SIZE = (30, 36, 28)


def drawn(seed, degrees, scale=0.1, shift_voxels=2.0):
    """A random matrix and shift, as far from the identity as they may be."""
    angles, scales, shift = np.random.default_rng(seed).uniform(-1, 1, (3, 3))
    turn = Rotation.from_euler("yxz", angles * degrees, degrees=True).as_matrix()
    matrix = torch.from_numpy(turn / (1 + scale * scales)).float()
    return matrix, torch.from_numpy(shift * shift_voxels).float()


def places(matrix, shift):
    """Source voxels, counted from the centre, of every voxel of the result: (I, J, K, 3)."""
    lines = [torch.arange(size) - (size - 1) / 2 for size in SIZE]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1) @ matrix.T + shift


def waves(place, length=12.0):
    """A smooth image: waves across all axes, `length` voxels long."""
    i, j, k = (place * (2 * torch.pi / length)).unbind(-1)
    return torch.sin(i + 0.6 * j) + torch.cos(j - 0.5 * k) + torch.sin(k + 0.4 * i)


def inside(place):
    """Whose source lies well inside the volume."""
    return (place.abs() < (torch.tensor(SIZE) - 1) / 2 - 3).all(dim=-1)


def test_one_pass_is_scipys_affine_resampling():
    generator = torch.Generator().manual_seed(0)
    source, (matrix, shift) = torch.rand(SIZE, generator=generator), drawn(1, 20.0, 0.2)
    centre = (np.array(SIZE) - 1) / 2
    offset = centre + shift.numpy() - matrix.numpy() @ centre
    expected = ndimage.affine_transform(
        source.numpy(), matrix.numpy(), offset, order=1, mode="grid-constant"
    )
    assert np.allclose(resample_at_once(source, matrix, shift).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_two_passes_are_as_near_to_a_smooth_image_as_one(seed):
    matrix, shift = drawn(seed, 10.0)
    place, source = places(matrix, shift), waves(places(torch.eye(3), torch.zeros(3)))
    truth, chosen = waves(place), inside(place)
    one, two = (f(source, matrix, shift) for f in (resample_at_once, resample_by_planes))
    errors = [(result - truth)[chosen].square().mean().sqrt() for result in (one, two)]
    assert errors[0] > 0.01 and errors[1] < 1.15 * errors[0]
    assert (one - two)[chosen].square().mean().sqrt() < 0.5 * errors[0]


def test_two_passes_leave_a_linear_image_linear():
    matrix, shift = drawn(4, 15.0)
    slopes = torch.tensor([0.3, -0.2, 0.1])
    source = places(torch.eye(3), torch.zeros(3)) @ slopes
    place = places(matrix, shift)
    found = resample_by_planes(source, matrix, shift)
    assert torch.allclose(found[inside(place)], (place @ slopes)[inside(place)], atol=1e-4)
    # Beyond the edge is nothing.
    outside = (place.abs() > (torch.tensor(SIZE) + 1) / 2 + 1).any(dim=-1)
    assert outside.any() and (found[outside] == 0).all()


def test_the_number_of_threads_moves_no_bit():
    source, (matrix, shift) = torch.rand(SIZE), drawn(5, 10.0)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(resample(source, matrix, shift))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_steep_turns_take_one_pass():
    turned = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    source, shift = torch.rand(SIZE), torch.zeros(3)
    found = resample(source, turned, shift)
    assert torch.equal(found, resample_at_once(source, turned, shift))
    matrix, shift = drawn(6, 10.0)
    flat = resample(source, matrix, shift)
    assert torch.equal(flat, resample_by_planes(source, matrix, shift))
