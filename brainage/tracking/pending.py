"""Send events that a tracker could not send, in the order in which they came."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainage.errors import TrackingError
from brainage.files import atomic_write_text, parse_json
from brainage.tracking.backend import Backend, Event
from brainage.tracking.tracker import EXPERIMENT, PENDING_FILE, log_warning
from brainage.tracking.uri import resolve_uri, shown_uri


def upload_pending(
    folder: Path,
    uri: str | None = None,
    *,
    experiment: str = EXPERIMENT,
    on_warning: Callable[[str], None] = log_warning,
) -> int:
    """Send the events that a tracker could not send.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the tracker.
    uri, experiment
        As in `Tracker`; a run that had begun on a server goes on there.
    on_warning : callable
        Receives one line for an unreadable event or a file that is gone.

    Returns
    -------
    int
        Number of events sent; the file is removed.

    Raises
    ------
    TrackingError
        If tracking is off, or the tracker fails; what is left stays in the file.
    """
    path, target = folder / PENDING_FILE, resolve_uri(uri, folder)
    if target is None:
        raise TrackingError("--tracking-uri", "is off.", "Name the server to upload to.")
    if not path.exists():
        return 0
    events, sent, backend = _read_events(path, on_warning), 0, None
    try:
        backend = Backend(target, experiment)
        for event in events:
            _replay(backend, event, on_warning)
            sent += 1
    except Exception as error:
        left = events[sent:]
        if backend is not None:
            left = [backend.with_run_ids(event) for event in left]
        atomic_write_text(path, "".join(json.dumps(event) + "\n" for event in left))
        raise TrackingError(
            shown_uri(target),
            f"MLflow failed after {sent} of {len(events)} events ({type(error).__name__}).",
            f"The rest stays in {path}: upload again when the tracker answers.",
        ) from error
    path.unlink()
    return sent


def _replay(backend: Backend, event: Event, on_warning: Callable[[str], None]) -> None:
    try:
        for file in backend.apply(event):
            on_warning(f"{file}: is gone, not uploaded.")
    except TrackingError as refusal:
        on_warning(f"{refusal} It is left out.")


def _read_events(path: Path, on_warning: Callable[[str], None]) -> list[Event]:
    events = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            event = parse_json(line)
        except ValueError:
            # A process that was killed while writing leaves half a line.
            on_warning(f"{path}: line {number} is not JSON, left out.")
            continue
        if _is_event(event):
            events.append(event)
        else:
            on_warning(f"{path}: line {number} is no event of a run, left out.")
    return events


def _is_event(event: Any) -> bool:
    if not isinstance(event, dict):
        return False
    named = isinstance(event.get("event"), str) and isinstance(event.get("run"), str)
    return named and isinstance(event.get("parent"), str | None)
