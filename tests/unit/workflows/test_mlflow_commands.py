import pytest

from brainage.errors import TrackingError
from brainage.tracking import PENDING_FILE, Tracker, server_command
from brainage.workflows.serve import serve_mlflow, upload

DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("uri", "message"),
    [("off", "got off"), (DEAD, "a server"), (None, "is not there"), ("ftp://x", "expected")],
)
def test_only_a_database_that_is_there_is_served(tmp_path, monkeypatch, uri, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=message):
        serve_mlflow(uri, "127.0.0.1", 5000)
    assert not list(tmp_path.iterdir())


def test_server_answers_to_its_own_names_only():
    command = server_command("sqlite:///x.db", "artifacts", host="0.0.0.0", port=7)
    allowed = command[command.index("--allowed-hosts") + 1].split(",")
    assert allowed == ["0.0.0.0:7", "localhost:7", "127.0.0.1:7"] and "*" not in allowed


def test_upload_says_when_nothing_waits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brainage.workflows.console._terminal", True)
    upload(DEAD)
    assert "nothing waits" in capsys.readouterr().out


def test_upload_that_fails_again_keeps_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Tracker(tmp_path, DEAD, on_warning=lambda _: None).start_run("x"):
        pass
    with pytest.raises(TrackingError, match="failed"):
        upload(DEAD)
    assert (tmp_path / PENDING_FILE).exists()
