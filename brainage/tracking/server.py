"""How MLflow's server is started, here and in a container."""

import os
import sys
from pathlib import Path

from brainage.tracking.backend import FORCED_ENVIRONMENT

# Background jobs, which take most of the start-up, are for other products.
_QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def server_command(
    backend_uri: str, artifacts: Path | str, *, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """Command line of a tracking server.

    Parameters
    ----------
    backend_uri : str
        ``sqlite:///…`` or ``postgresql://…``.
    artifacts : pathlib.Path or str
        Folder of models and pictures; clients send them through the server.
    host, port : str and int
        Where it listens. Only requests to this host, and to localhost, are answered.
    """
    allowed = dict.fromkeys((f"{host}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"))
    return [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", backend_uri,
        "--artifacts-destination", str(artifacts),
        "--host", host, "--port", str(port),
        "--allowed-hosts", ",".join(allowed),
        "--workers", "1",
        "--uvicorn-opts", "--log-level=warning",
    ]  # fmt: skip


def server_environment() -> dict[str, str]:
    """Environment of the server: MLflow's reports of its use to its makers are off."""
    return {**os.environ, **FORCED_ENVIRONMENT, **_QUIET}
