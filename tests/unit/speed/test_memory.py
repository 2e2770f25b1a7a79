"""Counted bytes of a step: what autograd keeps, and what is alive."""

import gc

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from brainage.config import with_changes
from brainage.model.build import build_model
from brainage.training.trainer import Trainer
from pipelines.speed.memory import LiveBytes, count_saved_bytes
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import RunSettings, random_batch, resolve_config
from pipelines.speed.single import count_step
from tests.small import make_config


def test_saved_bytes_count_each_storage_once_and_end_with_the_graph():
    x = torch.randn(1000, requires_grad=True)
    with count_saved_bytes([x]) as saved:
        y = x.exp()  # keeps its result
        z = (y * y).sum()  # keeps the same storage, twice
        assert saved.held == saved.peak == 4000
        z.backward()
        del y, z
    gc.collect()
    assert saved.held == 0


def test_live_bytes_see_the_peak_and_what_is_freed():
    with LiveBytes() as live:
        for _ in range(3):
            a = torch.ones(1000)
            b = a + 1
            del a, b
        c = torch.ones(500)
        c.add_(1)
        c.view(5, 100).t()
    assert live.peak == 8000


def test_live_bytes_see_what_a_checkpoint_computes_anew():
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(8)])
    x = torch.randn(512, 64)
    peaks = []
    for parts in (0, 1, 4):
        with LiveBytes() as live:
            y = x
            for part in layers.children() if parts == 0 else _groups(layers, parts):
                y = part(y) if parts == 0 else checkpoint(part, y, use_reentrant=False)
            y.sum().backward()
            del y
        layers.zero_grad()
        peaks.append(live.peak)
    assert peaks[1] > 0.8 * peaks[0]  # one segment is recomputed whole
    assert 0.5 * peaks[0] < peaks[2] < 0.75 * peaks[0]


def _groups(layers, parts):
    listed = list(layers.children())
    size = len(listed) // parts
    return [nn.Sequential(*listed[n : n + size]) for n in range(0, len(listed), size)]


def count(network, method, schedule="sequential", **changes):
    config = with_changes(make_config(network), {"preprocessing.shape": [16, 16, 16], **changes})
    candidate = Candidate(name=method, method=method, schedule=schedule)
    resolved = resolve_config(candidate, RunSettings(config))
    trainer = Trainer(build_model(resolved), resolved, names=[], shuffle=torch.Generator())
    batch = random_batch(resolved, 0)
    trainer.train_step(batch)
    return count_step(trainer, batch)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("resnet3d", {"channels": [8, 16, 32, 64], "units": [2, 2, 2, 2]}),
        ("vit3d", {"hidden_size": 32, "layers": 11, "heads": 2, "patch_size": 4}),
    ],
)
def test_local_blocks_keep_at_most_half_of_what_backpropagation_keeps(network, arguments):
    changes = {
        "network.arguments": arguments,
        "learning.blocks": 4,
        "learning.cut_by": "memory",
        "preprocessing.shape": [32, 32, 32],
        "training.batch_size": 2,
    }
    whole, alive = count(network, "bp", "end_to_end", **changes)
    local, alive_locally = count(network, "lfnn_l", **changes)
    assert local <= 0.5 * whole
    assert alive_locally < 0.7 * alive
