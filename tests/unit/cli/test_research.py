"""The studies and speed benchmarks of the repository, from a clone and from a wheel."""

import pytest

from brainage.errors import ConfigError
from brainage.workflows import research
from brainage.workflows.console import clear_errors


@pytest.mark.parametrize(
    "ask",
    [
        lambda: research.load_program("pipelines.study.engine"),
        lambda: research.announce_study("s1", None, quick=True),
        lambda: research.announce_speed("one_device", None, quick=True),
        research.find_programs,
    ],
)
def test_a_wheel_says_where_to_get_the_programs(ask, monkeypatch, tmp_path):
    monkeypatch.setattr(research, "_REPOSITORY", tmp_path)
    with pytest.raises(ConfigError, match="Clone the repository"):
        ask()


def test_what_will_run_is_told_first(capsys):
    with clear_errors(debug=False):
        research.announce_study("s1", None, quick=True)
        research.announce_speed("one_device", None, quick=True)
    told = capsys.readouterr().out
    assert "runs of at most 6 epochs" in told and "7 × 3 × 1 runs" in told
