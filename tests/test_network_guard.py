"""Nothing calls another machine, and the tests would notice."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# Reserved for documentation (RFC 5737): nobody has this address.
ELSEWHERE = "192.0.2.1"
CALL = f"import socket; socket.create_connection(({ELSEWHERE!r}, 9), timeout=0.01)"
LOOK_UP = "import socket; socket.getaddrinfo('brainage.invalid', 80)"


@pytest.mark.parametrize("code", [CALL, LOOK_UP])
def test_call_to_another_machine_is_refused_and_noted(code, refused_connections):
    with pytest.raises(ConnectionRefusedError, match="may not connect"):
        exec(code, {})
    assert "socket.getaddrinfo" in refused_connections.read_text()
    refused_connections.unlink()


def test_child_process_is_guarded_and_its_swallowed_error_is_seen(refused_connections):
    code = f"import socket\ntry: socket.create_connection(({ELSEWHERE!r}, 9))\nexcept OSError: pass"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert ELSEWHERE in refused_connections.read_text()
    refused_connections.unlink()


def test_packages_that_slow_the_import_of_monai_are_hidden_in_children_too():
    names = ("rfc3987_syntax", "transformers")
    code = f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_datagram_to_another_machine_is_refused(refused_connections):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(ConnectionRefusedError),
    ):
        sock.sendto(b"x", (ELSEWHERE, 9))
    refused_connections.unlink()


def test_this_machine_may_be_called():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


# Twelve seconds. The README's lines predict with that model too, where the guard is.
@pytest.mark.slow
def test_released_model_predicts_where_there_is_no_network(phantom_cohort, tmp_path):
    without = [shutil.which("unshare"), "--net"]
    if without[0] is None or subprocess.run([*without, "true"], capture_output=True).returncode:
        pytest.skip("networking can be removed by root on Linux only (unshare --net)")
    scan = next(phantom_cohort.parent.glob("sub-*/anat/*.nii.gz"))
    command = [sys.executable, "-m", "brainage.cli.main", "predict", str(scan)]
    output = tmp_path / "predictions.csv"
    done = subprocess.run(
        [*without, *command, "--output", str(output)],
        env={**os.environ, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert len(output.read_text().splitlines()) == 2
