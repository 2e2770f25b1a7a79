"""Tracking without MLflow: off by default, an error where a tracker was named."""

import pytest

from brainage import extras
from brainage.errors import MissingExtraError
from brainage.tracking.uri import URI_VARIABLE, installed_uri


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch):
    monkeypatch.delenv(URI_VARIABLE, raising=False)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)


def test_without_mlflow_nothing_is_tracked_and_one_line_says_so(tmp_path):
    told = []
    assert installed_uri(None, tmp_path, told.append) is None
    assert len(told) == 1 and "brainage[tracking]" in told[0]


def test_a_tracker_that_was_named_needs_mlflow(tmp_path, monkeypatch):
    with pytest.raises(MissingExtraError):
        installed_uri("http://tracker:5000", tmp_path, print)
    monkeypatch.setenv(URI_VARIABLE, "http://tracker:5000")
    with pytest.raises(MissingExtraError):
        installed_uri(None, tmp_path, print)
    assert installed_uri("off", tmp_path, print) is None
