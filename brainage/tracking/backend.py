"""MLflow's client behind three facts: events go in, run keys are ours, nothing else is contacted.

This is the only module that imports mlflow, and it does so when the first event is sent.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainage.errors import TrackingError
from brainage.files import hold_lock

Event = dict[str, Any]

# Read by MLflow at import and at each call. By itself it reports its use to its makers.
FORCED_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# MLflow's own default, seven retries of two minutes, would hold up training. The user's goes first.
DEFAULT_ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
UPLOAD_ENVIRONMENT = {**DEFAULT_ENVIRONMENT, "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
PARAMS_A_REQUEST = 100

# Opens the pages of training runs rather than those of language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class Backend:
    """A connection to one tracker.

    Parameters
    ----------
    uri : str
        ``http(s)://…`` or ``sqlite:///…``.
    experiment : str
        Name of the MLflow experiment; made if absent.

    Attributes
    ----------
    run_ids : dict
        MLflow's run id for each run key that was started here.

    Raises
    ------
    Exception
        Of any kind, as MLflow passes on what its database and HTTP libraries raise.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.run_ids: dict[str, str] = {}
        with _environment(DEFAULT_ENVIRONMENT), _making_tables(uri):
            self._client = _connect(uri)
            self._experiment_id = self._find_experiment(uri, experiment)

    def apply(self, event: Event) -> list[str]:
        """Send one event.

        Returns
        -------
        list of str
            Files that were to be stored and are gone.

        Raises
        ------
        TrackingError
            If the event is not valid: sending it again is no use.
        Exception
            Of any kind, if the tracker cannot be reached or fails.
        """
        from mlflow.exceptions import MlflowException

        with _environment(UPLOAD_ENVIRONMENT if event["event"] == "files" else DEFAULT_ENVIRONMENT):
            try:
                return self._apply(event)
            except MlflowException as error:
                if error.error_code in REFUSALS:
                    problem = f"was refused ({str(error).splitlines()[0][:200]})."
                    raise TrackingError(f"MLflow event {event['event']}", problem) from error
                raise

    def with_run_ids(self, event: Event) -> Event:
        """Add MLflow's ids to an event, so that another process can send it."""
        ids = {"run_id": self.run_ids.get(event["run"])}
        if event.get("parent"):
            ids["parent_run_id"] = self.run_ids.get(event["parent"])
        return event | {name: value for name, value in ids.items() if value}

    def _apply(self, event: Event) -> list[str]:
        if event["event"] == "start":
            self._start(event)
            return []
        run_id = self.run_ids.get(event["run"]) or event.get("run_id")
        if run_id is None:
            raise TrackingError(f"MLflow event {event['event']}", "belongs to an unknown run.")
        if event["event"] == "files":
            return self._send_files(run_id, event["files"], event["to"])
        if event["event"] == "register":
            self._register(run_id, event)
        elif event["event"] == "end":
            self._client.set_terminated(run_id, event["status"], event["time_ms"])
        else:
            self._log(run_id, event)
        return []

    def _find_experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None
            if uri.startswith("sqlite:///"):
                location = (_database_folder(uri) / "mlartifacts").as_uri()
            try:
                return str(self._client.create_experiment(name, location, tags=EXPERIMENT_TAGS))
            except Exception:
                # Another process may have made it in between.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _start(self, event: Event) -> None:
        tags = dict(event["tags"])
        if event["parent"]:
            parent = self.run_ids.get(event["parent"]) or event.get("parent_run_id")
            tags |= {"mlflow.parentRunId": parent} if parent else {}
        run = self._client.create_run(
            self._experiment_id, event["time_ms"], tags=tags, run_name=event["name"]
        )
        self.run_ids[event["run"]] = str(run.info.run_id)

    def _log(self, run_id: str, event: Event) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(name, value, event["time_ms"], event["step"])
            for name, value in event.get("metrics", {}).items()
        ]
        params = [Param(name, value) for name, value in event.get("params", {}).items()]
        tags = [RunTag(name, value) for name, value in event.get("tags", {}).items()]
        self._client.log_batch(run_id, metrics, params[:PARAMS_A_REQUEST], tags)
        for start in range(PARAMS_A_REQUEST, len(params), PARAMS_A_REQUEST):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_A_REQUEST])

    def _send_files(self, run_id: str, files: list[str], to: str) -> list[str]:
        present = [file for file in files if Path(file).is_file()]
        for file in present:
            self._client.log_artifact(run_id, file, to)
        return [file for file in files if file not in present]

    def _register(self, run_id: str, event: Event) -> None:
        """Make a run's artifact folder a version of a registered model; move the alias to it."""
        from mlflow.exceptions import MlflowException

        name = event["name"]
        try:
            self._client.create_registered_model(name, description=event["note"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        run = self._client.get_run(run_id)
        source = f"{run.info.artifact_uri.rstrip('/')}/{event['from']}"
        version = self._client.create_model_version(name, source, run_id, tags=event["tags"])
        self._client.set_registered_model_alias(name, event["alias"], version.version)


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model and the run that holds its files."""

    name: str
    version: str
    run_id: str
    path: str


class Registry:
    """MLflow's model registry, read only.

    Parameters
    ----------
    uri : str
        ``http(s)://…`` or ``sqlite:///…``.

    Raises
    ------
    Exception
        Of any kind, as MLflow passes on what its database and HTTP libraries raise.
    """

    def __init__(self, uri: str) -> None:
        with _environment(UPLOAD_ENVIRONMENT):
            self._client = _connect(uri)

    def find(self, name: str, alias: str | None, version: str | None) -> ModelVersion:
        """Version of an alias, or the version itself."""
        with _environment(UPLOAD_ENVIRONMENT):
            if alias is not None:
                found = self._client.get_model_version_by_alias(name, alias)
            else:
                found = self._client.get_model_version(name, version)
            root = self._client.get_run(found.run_id).info.artifact_uri.rstrip("/")
        path = str(found.source).removeprefix(root).strip("/")
        return ModelVersion(name, str(found.version), str(found.run_id), path)

    def download(self, version: ModelVersion, folder: Path) -> Path:
        """Bring a version's files into a folder; returns where they lie."""
        with _environment(UPLOAD_ENVIRONMENT):
            return Path(self._client.download_artifacts(version.run_id, version.path, str(folder)))


@dataclass(frozen=True)
class FoundRun:
    """A run in the tracker.

    Attributes
    ----------
    run_id, name : str
        MLflow's id, and the name it is shown by.
    started : float
        Seconds since 1970.
    page : str
        Its page below the server's address.
    """

    run_id: str
    name: str
    started: float
    page: str


class Archive:
    """Finished runs and their files, read only.

    Parameters
    ----------
    uri : str
        ``http(s)://…`` or ``sqlite:///…``.
    """

    def __init__(self, uri: str) -> None:
        with _environment(UPLOAD_ENVIRONMENT):
            self._client = _connect(uri)

    def find(self, experiment: str, names: str, most: int = 50) -> list[FoundRun]:
        """Finished runs whose names fit an SQL pattern, the newest first."""
        with _environment(UPLOAD_ENVIRONMENT):
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                return []
            runs = self._client.search_runs(
                [found.experiment_id],
                f"attributes.run_name LIKE '{names}' AND attributes.status = 'FINISHED'",
                max_results=most,
                order_by=["attributes.start_time DESC"],
            )
        return [
            FoundRun(
                run.info.run_id,
                str(run.info.run_name),
                run.info.start_time / 1000.0,
                f"#/experiments/{found.experiment_id}/runs/{run.info.run_id}",
            )
            for run in runs
        ]

    def download(self, run_id: str, name: str, folder: Path) -> Path:
        """Bring a folder of a run's files; returns where it lies."""
        with _environment(UPLOAD_ENVIRONMENT):
            return Path(self._client.download_artifacts(run_id, name, str(folder)))


def _connect(uri: str) -> Any:
    """Connect to a tracker and its registry, and keep progress messages off the terminal."""
    from mlflow.tracking import MlflowClient

    # The level in the environment comes too late where something else has imported MLflow.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Without its URI the registry would be looked for at MLflow's default address.
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _database_folder(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///")).resolve().parent


def _making_tables(uri: str) -> AbstractContextManager[None]:
    """Alone: two processes that make one database's tables at once spoil it for good."""
    if not uri.startswith("sqlite:///"):
        return nullcontext()
    _database_folder(uri).mkdir(parents=True, exist_ok=True)
    return hold_lock(Path(uri.removeprefix("sqlite:///") + ".lock"))


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set what MLflow must see, for as long as it looks."""
    wanted = {**defaults, **{name: os.environ[name] for name in defaults if name in os.environ}}
    wanted |= FORCED_ENVIRONMENT
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
