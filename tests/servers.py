"""Real servers on free ports for tests: MLflow, and PostgreSQL from Debian's packages."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from brainage.tracking import server_command, server_environment
from tools.node.stand import free_port

START_SECONDS = 120


@dataclass
class MlflowServer:
    """A tracking server that a test may kill and start again on the same port."""

    backend_uri: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = server_command(self.backend_uri, self.folder / "artifacts", port=self.port)
        with (self.folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=server_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(START_SECONDS * 5):
            if self.process.poll() is not None:
                break
            try:
                with urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        pytest.fail(
            f"MLflow server did not start:\n{(self.folder / 'log.txt').read_text()[-2000:]}"
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server and its workers."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait(timeout=30)


@contextmanager
def run_mlflow(backend_uri: str, folder: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(backend_uri, folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def run_postgres() -> Iterator[str]:
    """URI of a database `mlflow` in a new cluster; the test is skipped where there is no server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="pip install 'brainage[server]'")
    binaries, port = found[-1].parent, free_port()
    folder = Path(tempfile.mkdtemp(prefix="brainage-postgres-"))
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = folder / "data"

    def run(*command: object) -> None:
        arguments = [str(part) for part in command]
        subprocess.run(arguments, user=user, cwd=folder, check=True, capture_output=True)

    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run(binaries / "initdb", "-D", data, "-U", "mlflow", "--auth=trust", "-E", "UTF8")
        run(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start")
        run(binaries / "createdb", "-h", folder, "-p", port, "-U", "mlflow", "mlflow")
        yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        if (data / "postmaster.pid").exists():
            run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
