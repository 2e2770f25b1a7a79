import pytest
import torch

from brainage.errors import ConfigError
from brainage.lfnn.workers import NativeHead, WorkerHead


@pytest.mark.parametrize("shape", [(16, 6, 7, 5), (16, 9, 9), (12, 16), (16,)])
@pytest.mark.parametrize("reads", ["all", "own"])
def test_outputs_have_samples_workers_classes(shape, reads):
    head = WorkerHead(shape, 10, workers=4, reads=reads)
    assert head(torch.randn(3, *shape)).shape == (3, 4, 10)


def test_own_worker_reads_only_its_channel_group():
    head = WorkerHead((8, 4, 4, 4), 5, workers=4, reads="own", norm="none")
    features = torch.randn(2, 8, 4, 4, 4, requires_grad=True)
    head(features)[:, 1].sum().backward()
    touched = features.grad.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert touched.tolist() == [False, False, True, True, False, False, False, False]


def test_all_worker_reads_every_channel():
    head = WorkerHead((8, 4, 4, 4), 5, workers=4, reads="all", norm="none")
    features = torch.randn(2, 8, 4, 4, 4, requires_grad=True)
    head(features)[:, 1].sum().backward()
    assert (features.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).all()


def test_uneven_channel_groups_are_refused_with_a_number_that_fits():
    with pytest.raises(
        ConfigError, match=r"10 channels cannot be divided evenly among 4 .* Use 2 workers"
    ):
        WorkerHead((10, 4, 4, 4), 5, workers=4, reads="own")


def test_workers_start_different():
    head = WorkerHead((8, 4, 4, 4), 5, workers=4)
    outputs = head(torch.randn(6, 8, 4, 4, 4))
    assert (outputs[:, 0] - outputs[:, 1]).abs().max() > 0.01


def test_batch_norm_head_equalises_feature_scales():
    features = torch.randn(64, 4, 4, 4, 4) * torch.tensor([0.1, 1.0, 1e3, 1e5]).view(4, 1, 1, 1)
    head = WorkerHead((4, 4, 4, 4), 5)
    normalised = head.norm(head.pool(features))
    torch.testing.assert_close(normalised.std(0, correction=0), torch.ones(32), atol=0.2, rtol=0)


@pytest.mark.parametrize("shape", [(12,), (5, 12), (12, 4, 4), (12, 3, 4, 5)])
def test_native_outputs_are_the_means_of_the_workers_own_channels(shape):
    head = NativeHead(shape, 3, workers=4)
    features = torch.randn(2, *shape)
    channel = features[..., 7] if len(shape) <= 2 else features[:, 7]
    expected = channel.reshape(2, -1).mean(1)
    torch.testing.assert_close(head(features)[:, 2, 1], expected)
    assert not list(head.parameters())


def test_native_refuses_a_width_that_is_not_workers_times_outputs():
    with pytest.raises(ConfigError, match=r"4 workers × 3 outputs = 12 channels, the block has 10"):
        NativeHead((10,), 3, workers=4)


@pytest.mark.parametrize("shape", [(8, 5, 6), (8, 4, 5, 4)])
def test_convolving_worker_still_reads_only_its_channel_group(shape):
    head = WorkerHead(shape, 5, workers=4, reads="own", norm="none", convolves=True)
    features = torch.randn(3, *shape, requires_grad=True)
    head(features)[:, 1].square().sum().backward()
    touched = features.grad.flatten(2).abs().amax(dim=(0, 2)) > 0
    assert touched.tolist() == [False, False, True, True, False, False, False, False]


def test_vectors_and_tokens_cannot_be_convolved():
    with pytest.raises(ConfigError, match="conv needs feature maps"):
        WorkerHead((5, 8), 3, convolves=True)


def test_class_token_is_read_alone():
    head = WorkerHead((5, 8), 3, norm="none", token="class")
    features = torch.randn(2, 5, 8, requires_grad=True)
    head(features).sum().backward()
    touched = features.grad.abs().amax(dim=(0, 2)) > 0
    assert touched.tolist() == [True, False, False, False, False]


def test_weights_start_uniform_within_one_over_the_root_of_what_a_worker_reads():
    torch.manual_seed(0)
    for reads, bound in (("all", 1 / 4), ("own", 1 / 2)):
        head = WorkerHead((16,), 60, workers=4, reads=reads)
        for values in (head.weight, head.bias):
            assert -bound <= values.min() < -0.9 * bound and 0.9 * bound < values.max() <= bound


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 4, 6, 4)])
def test_pooled_maps_are_means_of_cells_channels_slowest(shape):
    features = torch.randn(2, *shape)
    coarse = WorkerHead(shape, 5).pool(features)
    assert coarse.shape == (2, 3 * 2 ** (len(shape) - 1))
    cell = features[:, 1, :2, :3].reshape(2, -1) if len(shape) == 3 else features[:, 1, :2, :3, :2]
    torch.testing.assert_close(coarse[:, 2 ** (len(shape) - 1)], cell.reshape(2, -1).mean(1))
    single = WorkerHead(shape, 5, pool=1).pool(features)
    torch.testing.assert_close(single, features.flatten(2).mean(2))


@pytest.mark.parametrize(("shape", "grid"), [((8, 1, 5), (1, 2)), ((8, 5, 4, 1), (2, 2, 1))])
def test_a_convolved_head_halves_the_maps_upwards_before_it_pools(shape, grid):
    head = WorkerHead(shape, 5, workers=2, convolves=True)
    convolution, norm, gate = head.convolution
    assert convolution(torch.zeros(1, *shape)).shape[2:] == tuple(-(-n // 2) for n in shape[1:])
    assert convolution.weight.shape == (8, 8, *[3] * len(grid)) and convolution.bias is None
    assert norm.num_features == 8 and isinstance(gate, torch.nn.ReLU)
    assert head.pooled_grid == grid and head.weight.shape == (2, 5, 8 * torch.Size(grid).numel())


def test_dropout_and_norm_are_those_that_were_asked_for():
    head = WorkerHead((8,), 3, norm="layer", dropout=0.25)
    assert head.dropout.p == 0.25 and head.norm.normalized_shape == (8,)
    plain = WorkerHead((8,), 3)
    assert plain.dropout.p == 0.0 and isinstance(plain.norm, torch.nn.BatchNorm1d)
    dropped = WorkerHead((8,), 3, norm="none", dropout=1.0)
    torch.testing.assert_close(dropped(torch.randn(2, 8)), dropped.bias.expand(2, 1, 3))


REFUSALS = {
    "native": (
        lambda: NativeHead((10,), 3, workers=4),
        "learning.head: native needs 4 workers × 3 outputs = 12 channels, the block has 10. "
        "Change workers_per_block or the network's width, or use head: linear.",
    ),
    "uneven": (
        lambda: WorkerHead((9,), 3, workers=7, reads="own"),
        "learning.workers_per_block: 9 channels cannot be divided evenly among 7 workers. "
        "Use 3 workers, or worker_reads: all.",
    ),
    "few": (
        lambda: WorkerHead((2,), 3, workers=7, reads="own"),
        "learning.workers_per_block: 2 channels cannot be divided evenly among 7 workers. "
        "Use 2 workers, or worker_reads: all.",
    ),
    "tokens": (
        lambda: WorkerHead((5, 8), 3, convolves=True),
        "learning.head: conv needs feature maps, the block gives features of shape (5, 8). "
        "Use head: linear.",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_heads_refusal_says(name):
    make, expected = REFUSALS[name]
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == expected
