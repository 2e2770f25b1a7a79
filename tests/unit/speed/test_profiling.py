"""Stages timed on parts of a batch, and by several processes at once."""

import pytest

from brainage.workflows import profiling
from brainage.workflows.profiling import ProfileOptions, measure_in_parts, measure_stages
from tests.small import make_config
from tests.unit.lfnn.test_profile import stage


def test_parts_of_a_batch_count_together_and_updates_once_or_for_each(monkeypatch):
    sizes = []

    def measure(config, options):
        sizes.append(options.batch_size)
        return [stage("a", update=3.0)]

    monkeypatch.setattr(profiling, "measure_stages", measure)
    (once,) = measure_in_parts(make_config("cnn3d_light"), ProfileOptions(batch_size=8), 4)
    (each,) = measure_in_parts(make_config("cnn3d_light"), ProfileOptions(), 2, updates=2)
    assert sizes == [2, 2]
    assert (once.forward_s, once.update_s, once.output_elements) == (4.0, 3.0, 40)
    assert (each.backward_s, each.update_s, each.output_elements) == (2.0, 6.0, 20)


def test_processes_that_measure_at_once_count_by_their_mean(monkeypatch):
    def run(program, arguments, processes, hear):
        for seconds in (1.0, 3.0):
            hear("stages", ([stage("a", update=seconds), stage("b", update=2 * seconds)],))

    monkeypatch.setattr(profiling, "run_ranks", run)
    first, second = measure_stages(make_config("cnn3d_light"), ProfileOptions(processes=2))
    assert (first.name, first.update_s, first.output_elements) == ("a", 2.0, 10)
    assert (second.name, second.update_s) == ("b", 4.0)


@pytest.mark.slow
def test_two_processes_time_the_stages_that_one_does():
    config = make_config("cnn3d_light")
    options = ProfileOptions(batch_size=4, repeats=1)
    alone = measure_stages(config, options)
    together = measure_stages(config, ProfileOptions(batch_size=4, repeats=1, processes=2))
    assert [s.name for s in together] == [s.name for s in alone]
    assert [s.output_elements for s in together] == [s.output_elements for s in alone]
    assert all(s.forward_s > 0 for s in together)
