"""What becomes of memory that tensors free."""

import platform
import subprocess
import sys

import pytest

from brainage.config import with_changes
from brainage.model.build import build_model
from brainage.training import state
from tests.small import make_config

# Every other tensor is freed: pieces that a heap would keep. An earlier training may have kept all.
PROGRAM = """
import torch
from brainage.training import resources
cpu = torch.device("cpu")
for name in {names}:
    getattr(resources, name)(cpu)
tensors = [torch.ones(2**19) for _ in range(100)]
full = resources.psutil.Process().memory_info().rss
del tensors[::2]
print((full - resources.psutil.Process().memory_info().rss) // 2**20)
"""


def freed_mb(*names):
    command = [sys.executable, "-c", PROGRAM.format(names=names)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_freed_memory_is_kept_or_given_back():
    assert freed_mb("keep_freed_memory") < 10
    assert freed_mb("keep_freed_memory", "release_freed_memory") > 90


@pytest.mark.parametrize("releases", [False, True])
def test_training_treats_freed_memory_as_the_settings_say(monkeypatch, releases):
    called = []
    for name in ("keep_freed_memory", "release_freed_memory"):
        monkeypatch.setattr(state, name, lambda device, name=name: called.append(name))
    config = with_changes(make_config("cnn3d_light"), {"training.release_memory": releases})
    generator = state.torch.Generator()
    state.TrainingState(build_model(config), config, names=[], shuffle=generator)
    assert called == ["release_freed_memory" if releases else "keep_freed_memory"]
