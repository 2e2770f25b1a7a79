"""The largest batch that fits: the search, and one real refusal."""

import sys

import pytest

from pipelines.speed.largest import fits, search
from pipelines.speed.plan import Candidate
from pipelines.speed.runs import RunSettings
from tests.small import make_config


@pytest.mark.parametrize("largest", [0, 2, 3, 7, 8, 100, 255, 256])
def test_the_search_finds_the_largest_that_fits(largest):
    tried = []

    def is_enough(count):
        tried.append(count)
        return count <= largest

    assert search(is_enough) == largest
    assert len(tried) == len(set(tried)) <= 16 and all(2 <= n <= 256 for n in tried)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is Linux's")
def test_a_step_that_takes_more_memory_does_not_fit():
    settings = RunSettings(make_config("cnn3d_light", method="bp"))
    candidate = Candidate(name="bp", method="bp", schedule="end_to_end")
    assert fits(candidate, settings, 4, 2048)
    assert not fits(candidate, settings, 4, 100)
    wrong = candidate.model_copy(update={"changes": {"network.name": "no"}})
    with pytest.raises(RuntimeError, match="a step of 4 samples failed"):
        fits(wrong, settings, 4, 2048)
