"""Networks that cannot see how strong a scan's contrast is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brainage.config import with_changes
from brainage.model.build import build_model, cut_names
from tests.small import NETWORKS, make_config, random_batch

UNIT = {"network.unit_amplitude": True}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_strength_of_contrast_moves_no_output(network):
    config = with_changes(make_config(network), UNIT)
    model, (volumes, _) = build_model(config).eval(), random_batch(config)
    with torch.no_grad():
        torch.testing.assert_close(model(volumes * 0.8), model(volumes), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(volumes * 1.25), model(volumes), rtol=1e-4, atol=1e-5)
    assert cut_names(config) == cut_names(make_config(network))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.floats(0, 0.9))
def test_inputs_have_unit_size_where_they_are_not_0(seed, strength, empty):
    from brainage.networks._amplitude import UnitAmplitude

    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 1, 5, 6, 4, generator=generator) * strength
    values *= torch.rand(values.shape, generator=generator) >= empty
    values[2] = 0
    scaled = UnitAmplitude()(values)
    for item, source in zip(scaled[:2], values[:2], strict=True):
        if source.any():
            assert float(item[source != 0].abs().mean()) == pytest.approx(1, rel=1e-4)
    assert not scaled[2].any()


def test_a_network_without_it_is_what_it_was():
    config = make_config("cnn3d_light")
    assert "unit_amplitude" not in config.network.model_dump(mode="json")
    plain, unit = build_model(config), build_model(with_changes(config, UNIT))
    for mine, theirs in zip(plain.parameters(), unit.parameters(), strict=True):
        assert torch.equal(mine, theirs)
