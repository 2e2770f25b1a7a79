"""Random draws of one purpose: torch's, at a derived seed, and nobody else's."""

import traceback

import pytest
import torch

from brainage.model.build import derive_seed, seeded


def test_draws_are_those_of_torch_at_the_derived_seed() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with seeded(3, "draws", 1):
        drawn = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(derive_seed(3, "draws", 1))
    assert torch.equal(drawn, torch.rand(4))


def test_seeding_keeps_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` formats one for each device that is absent: most of a small step."""

    def refuse(*_: object) -> None:
        raise AssertionError("a stack trace was made")

    monkeypatch.setattr(traceback, "format_stack", refuse)
    with seeded(0, "draws"):
        torch.rand(1)
