"""docker-compose.yml: a real parser accepts it, and every service's command runs without an engine.

PostgreSQL is Debian's; the other services run with their own commands, environment and health
checks, only folders, ports and host names put in place of the containers'.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import run_postgres
from tools.node.stand import free_port

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
FOLDERS = ("artifacts", "models", "cache", "queue", "work")
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def load_compose(name: str, environment: dict[str, str]) -> dict[str, Any]:
    """A compose file with its variables put in, as the engine does it."""

    def value(match: re.Match[str]) -> str:
        variable, kind, text = match.groups()
        if environment.get(variable):
            return environment[variable]
        if kind == "-":
            return str(text)
        raise KeyError(f"{variable}: {text}")

    return yaml.safe_load(_VARIABLE.sub(value, (ROOT / name).read_text()))


@pytest.fixture
def services() -> dict[str, Any]:
    return load_compose(FILES[0], {"POSTGRES_PASSWORD": "secret"})["services"]


@pytest.mark.parametrize("name", FILES)
def test_file_is_what_the_specification_asks(name):
    parser = pytest.importorskip("compose_spec", reason="pip install compose-spec")
    compose = load_compose(name, {"POSTGRES_PASSWORD": "secret"})
    parser.PyCompose.from_yaml(yaml.safe_dump(compose)).validate()


@pytest.mark.parametrize("name", FILES)
def test_composes_own_parser_accepts_it(name):
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    files = [part for file in FILES[: FILES.index(name) + 1] for part in ("--file", file)]
    environment = os.environ | {"POSTGRES_PASSWORD": "secret"}
    result = subprocess.run(
        [program, *files, "config", "--quiet"], cwd=ROOT, env=environment, capture_output=True
    )
    assert result.returncode == 0, result.stderr.decode()


def test_password_has_no_default():
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        load_compose(FILES[0], {})
    example = (ROOT / ".env.example").read_text()
    assert re.search(r"^POSTGRES_PASSWORD=$", example, re.MULTILINE)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_variable_is_in_the_example():
    example = (ROOT / ".env.example").read_text()
    used = {match[1] for name in FILES for match in _VARIABLE.finditer((ROOT / name).read_text())}
    assert used <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_services_are_hardened_pinned_limited_and_checked(services):
    assert set(services) == {"app", "mlflow", "node", "postgres", "train"}
    for name, service in services.items():
        assert service["read_only"] and service["pids_limit"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"] and limits["memory"], name
        assert re.search(r":\d+\.\d+", service["image"]), f"{name} has no pinned version"
        if name != "train":
            assert service["healthcheck"]["test"][0] == "CMD", name
        if name != "postgres":
            assert service["user"] == "10001:10001" and service["cap_drop"] == ["ALL"], name


def test_no_port_is_open_to_other_machines_by_default(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_image_is_not_root_and_its_versions_are_pinned():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert any(re.match(r"ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-", line) for line in lines)


class Stand:
    """Puts this machine's folders, ports and addresses in place of the containers'."""

    def __init__(self, folder: Path, postgres: str, data: Path) -> None:
        self.ports = {inside: str(free_port()) for inside in ("5000", "8501", "11112")}
        address = re.search(r"@([^/]+)/", postgres)
        assert address is not None
        self.replaced = {
            "mlflow:secret@postgres:5432": f"mlflow@{address[1]}",
            "mlflow:5000": f"127.0.0.1:{self.ports['5000']}",
            "/data": str(data),
            **{f"/{name}": str(folder / name) for name in FOLDERS},
        }
        for name in FOLDERS:
            (folder / name).mkdir()
        self.folder = folder

    def place(self, text: str) -> str:
        for inside, outside in self.replaced.items():
            start = r"(?<![\w.])" if inside.startswith("/") else ""
            text = re.sub(f"{start}{re.escape(inside)}(?![\\w-])", outside, text)
        for inside, outside in self.ports.items():
            text = re.sub(rf"(?<!\d){inside}(?!\d)", outside, text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def command(self, words: list[str]) -> list[str]:
        programs = {
            "brainage": [sys.executable, "-m", "brainage.cli.main"],
            "mlflow": [sys.executable, "-m", "mlflow"],
            "python": [sys.executable],
        }
        return [*programs[words[0]], *(self.place(word) for word in words[1:])]

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        own = {key: self.place(str(value)) for key, value in service.get("environment", {}).items()}
        image = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        paths = {"BRAINAGE_CACHE": str(self.folder / "cache")}
        return {**os.environ, **image, **paths, **own}

    def start(self, service: dict[str, Any], log: Path) -> subprocess.Popen:
        with log.open("w") as file:
            return subprocess.Popen(
                self.command(service["command"]),
                cwd=self.folder / "work",
                env=self.environment(service),
                stdout=file,
                stderr=file,
            )

    def wait_until_healthy(self, service: dict[str, Any], process: subprocess.Popen, log: Path):
        check = self.command(service["healthcheck"]["test"][1:])
        for _ in range(240):
            if process.poll() is not None:
                break
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.5)
        pytest.fail(f"not healthy:\n{log.read_text()[-2000:]}")


@pytest.mark.slow
def test_every_service_runs_outside_a_container(services, phantom_cohort, tmp_path):
    running = []
    with run_postgres() as postgres:
        stand = Stand(tmp_path, postgres, phantom_cohort.parent)
        try:
            for name in ("mlflow", "app", "node"):
                if name != "mlflow" and not has_command(name):
                    continue
                log = tmp_path / f"{name}.txt"
                running.append(stand.start(services[name], log))
                stand.wait_until_healthy(services[name], running[-1], log)
            train = dict(services["train"])
            # The real command, made short.
            train["command"] = [*train["command"], "--preset", "phantom", "--epochs", "1"]
            log = tmp_path / "train.txt"
            assert stand.start(train, log).wait(timeout=900) == 0, log.read_text()[-2000:]
            assert (tmp_path / "models" / "new" / "manifest.json").exists()
            assert not list((tmp_path / "work").glob("mlflow-pending*")), "the tracker was missed"
            assert list((tmp_path / "artifacts").rglob("model.safetensors"))
        finally:
            for process in running:
                process.terminate()
                process.wait(timeout=30)


def has_command(name: str) -> bool:
    from brainage.cli.main import app

    return any((item.name or item.callback.__name__) == name for item in app.registered_commands)
