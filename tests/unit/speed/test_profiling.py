"""Stages timed on parts of a batch."""

from pipelines import profiling
from pipelines.profiling import ProfileOptions, measure_in_parts
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
