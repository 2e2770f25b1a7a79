"""Log experiments, and keep training when the tracker fails.

Every call becomes an event, a small JSON object. An event goes to the tracker at once; when the
tracker fails, it goes to `mlflow-pending.jsonl` instead, and so do all later ones of this process,
so training never waits for a dead server and never stops because of it. `upload_pending` replays
that file through the same code.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from brainage.errors import TrackingError
from brainage.tracking.backend import Backend, Event
from brainage.tracking.uri import installed_uri, shown_uri

EXPERIMENT = "brainage"
PENDING_FILE = "mlflow-pending.jsonl"
# What a bundle consists of. Tables and images stay: they hold ids, ages and scans.
ARTIFACT_SUFFIXES = (".safetensors", ".json", ".yaml", ".md", ".txt")
PARAMETER_LENGTH, TAG_LENGTH = 6000, 5000
WITHHELD = "(path withheld)"

Scalar = str | int | float | bool | None


def log_warning(message: str) -> None:
    """Send a warning to the log of this module."""
    logging.getLogger(__name__).warning(message)


class Tracker:
    """Where experiments are logged.

    Parameters
    ----------
    folder : pathlib.Path
        Holds `mlflow.db`, `mlartifacts` and the events that could not be sent.
    uri : str, optional
        As in `resolve_uri`; ``off`` makes every call do nothing.
    experiment : str
        Name of the MLflow experiment.
    on_warning : callable
        Receives one line when the tracker fails, once, and one for each event that it refuses.

    Raises
    ------
    TrackingError
        If the URI is not one of a server or a database.
    MissingExtraError
        If a tracker was asked for and MLflow is not installed; without one, nothing is tracked.
    """

    def __init__(
        self,
        folder: Path,
        uri: str | None = None,
        *,
        experiment: str = EXPERIMENT,
        on_warning: Callable[[str], None] = log_warning,
    ) -> None:
        self.folder, self.experiment = folder, experiment
        self.uri = installed_uri(uri, folder, on_warning)
        self._on_warning = on_warning
        self._backend: Backend | None = None
        self._failed = self._lost = False

    @property
    def failed(self) -> bool:
        """Whether events wait in `mlflow-pending.jsonl` since the tracker failed."""
        return self._failed

    @contextmanager
    def start_run(
        self,
        name: str,
        *,
        tags: Mapping[str, Scalar] | None = None,
        params: Mapping[str, Any] | None = None,
        parent: "Run | None" = None,
        note: str = "",
    ) -> Iterator["Run"]:
        """Open a run; it ends FINISHED, FAILED on an exception, KILLED on an interrupt.

        Parameters
        ----------
        name : str
            As `brainage.tracking.run_name` gives it.
        tags, params : mapping, optional
            None values are left out.
        parent : Run, optional
            Makes this a child run.
        note : str
            Markdown shown above the run.

        Yields
        ------
        Run
            Takes metrics, parameters and artifacts.
        """
        run = Run(self, uuid4().hex)
        described = {"mlflow.note.content": note} if note else {}
        self.record(
            {
                "event": "start",
                "run": run.key,
                "parent": parent.key if parent else None,
                "name": name,
                "tags": _texts(tags or {}, TAG_LENGTH) | described,
            }
        )
        run.log_params(params or {})
        try:
            yield run
        except Exception:
            self._end(run, "FAILED")
            raise
        except BaseException:
            self._end(run, "KILLED")
            raise
        self._end(run, "FINISHED")

    def _end(self, run: "Run", status: str) -> None:
        self.record({"event": "end", "run": run.key, "status": status})

    def record(self, event: Event) -> None:
        """Send an event, or keep it for `upload_pending`; never raises an Exception."""
        if self.uri is None:
            return
        event = {**event, "time_ms": time.time_ns() // 1_000_000}
        if not self._failed:
            try:
                if self._backend is None:
                    self._backend = Backend(self.uri, self.experiment)
                for path in self._backend.apply(event):
                    self._on_warning(f"{path}: is gone, not stored in MLflow.")
                return
            except TrackingError as refusal:
                self._on_warning(f"{refusal} It is left out.")
                return
            # MLflow wraps few of its failures: database, network and disk errors come as they are.
            except Exception as error:
                self._failed = True
                self._on_warning(
                    f"MLflow at {shown_uri(self.uri)} failed ({type(error).__name__}); the run "
                    f"goes on, its events wait in {self.folder / PENDING_FILE}; send them there "
                    "later by `brainage mlflow --upload`."
                )
        self._keep(event)

    def _keep(self, event: Event) -> None:
        event = self._backend.with_run_ids(event) if self._backend else event
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / PENDING_FILE).open("a+b") as file:
                # A process that was killed may have left half a line: it must not spoil this one.
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                start = b"" if file.read(1) in (b"", b"\n") else b"\n"
                file.write(start + json.dumps(event).encode() + b"\n")
        except OSError as error:
            if not self._lost:
                name = self.folder / PENDING_FILE
                self._on_warning(f"{name}: cannot be written ({error.strerror}): events are lost.")
            self._lost = True


@dataclass(frozen=True)
class Run:
    """An open run of a tracker.

    Attributes
    ----------
    tracker : Tracker
        Where it is logged.
    key : str
        Identifies the run in events; MLflow's own id may not be known yet.
    """

    tracker: Tracker
    key: str

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log numbers in one request; None and values that are not finite are left out."""
        finite = {
            name: float(value)
            for name, value in metrics.items()
            if value is not None and math.isfinite(value)
        }
        if finite:
            self.tracker.record(
                {"event": "metrics", "run": self.key, "metrics": finite, "step": step}
            )

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings in one request; nested ones as dotted names, None is left out."""
        texts = _texts(_flat(params), PARAMETER_LENGTH)
        if texts:
            self.tracker.record({"event": "params", "run": self.key, "params": texts})

    def log_artifact_folder(self, folder: Path, name: str = "bundle") -> None:
        """Store a bundle's files (`ARTIFACT_SUFFIXES`) under a name; no table and no image."""
        self._store([path for path in sorted(folder.glob("*")) if _is_artifact(path)], name)

    def log_bundle(self, folder: Path, files: Sequence[str], name: str = "bundle") -> None:
        """Store the named files of a folder under a name, subfolders kept."""
        groups: dict[str, list[Path]] = {}
        for file in files:
            to = (PurePosixPath(name) / file).parent.as_posix()
            groups.setdefault(to, []).append(folder / file)
        for to, paths in groups.items():
            self._store(paths, to)

    def register(
        self,
        name: str,
        alias: str,
        *,
        tags: Mapping[str, Scalar] | None = None,
        note: str = "",
        artifact: str = "bundle",
    ) -> None:
        """Make the stored bundle a version of a registered model, and move an alias to it."""
        event = {"event": "register", "run": self.key, "name": name, "alias": alias}
        described = {"tags": _texts(tags or {}, TAG_LENGTH), "note": note, "from": artifact}
        self.tracker.record(event | described)

    def log_tables(self, paths: Sequence[Path], name: str = "tables") -> None:
        """Store tables; give only tables without a row a scan or a person."""
        self._store(paths, name)

    def log_figure(self, path: Path) -> None:
        """Store one picture; give only pictures that show no single scan's age."""
        self._store([path], "figures")

    def _store(self, paths: Sequence[Path], to: str) -> None:
        files = [str(path.resolve()) for path in paths]
        self.tracker.record({"event": "files", "run": self.key, "files": files, "to": to})


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: ``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _texts(values: Mapping[str, Any], length: int) -> dict[str, str]:
    """Values as text; a path may name a person, so it stays here."""
    texts = {name: str(value) for name, value in values.items() if value is not None}
    return {
        name: WITHHELD if "/" in text or "\\" in text else text[:length]
        for name, text in texts.items()
    }


def _is_artifact(path: Path) -> bool:
    return path.is_file() and path.suffix in ARTIFACT_SUFFIXES
