import pytest
import torch

from brainage.errors import ConfigError
from brainage.lfnn.workers import WorkerHead


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
        ConfigError, match=r"10 channels cannot be dealt evenly to 4 .* Use 2 workers"
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
