"""Downloads that go on where they broke off, and are checked before they count."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast

from brainage.errors import DownloadError

TIMEOUT_S = 60
Progress = Callable[[int, int], None]
_CHUNK_BYTES = 2**20
_AGAIN = "Run the command again: it goes on where it stopped."


def download(
    url: str, target: Path, *, checksum: str = "", on_progress: Progress | None = None
) -> None:
    """Download a file; a part of an earlier try is taken up.

    A file that is there stays, unless a checksum is given and is not its own.

    Parameters
    ----------
    url : str
        http or https.
    target : pathlib.Path
        Appears only when all bytes have come; until then they lie in ``NAME.part``.
    checksum : str
        Expected digest after the name of its algorithm, such as ``sha256:9f…``, where the
        publishers tell it.
    on_progress : callable, optional
        Called with (bytes here, bytes in all).

    Raises
    ------
    DownloadError
        If the server cannot be reached, the connection breaks, or the digest is another.
    """
    algorithm, _, expected = checksum.partition(":")
    if target.exists() and (not expected or _digest(target, algorithm) == expected):
        return
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part, bool(expected), on_progress)
    except (OSError, HTTPException, ValueError) as error:
        kept = part.stat().st_size if part.exists() else 0
        reason = getattr(error, "reason", None) or error
        problem = f"cannot be downloaded ({reason}); {kept} bytes are kept."
        raise DownloadError(url, problem, _AGAIN) from error
    came = _digest(part, algorithm) if expected else ""
    if came != expected:
        part.unlink()
        problem = f"expected {algorithm.upper()} {expected}, got {came}; the file was deleted."
        remedy = "Download it again; if that fails, the source has changed."
        raise DownloadError(url, problem, remedy)
    part.replace(target)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(
            stream, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def _receive(url: str, part: Path, has_checksum: bool, on_progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    if request.type not in ("http", "https"):
        raise ValueError(f"expected http or https, got {request.type}")
    try:
        response = cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT_S))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # 416: nothing lies beyond what is here. That may be all of it, or too much.
        whole = error.headers.get("Content-Range", "").rpartition("/")[2]
        if whole == str(have) or (not whole and has_checksum):
            return
        part.unlink()
        raise ValueError(f"{have} bytes were here, more than the server has") from error
    with response:
        # A server that does not know ranges sends all from the start.
        have = have if response.status == 206 else 0
        total = have + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if have else "wb") as sink:
            while chunk := response.read(_CHUNK_BYTES):
                sink.write(chunk)
                have += len(chunk)
                if on_progress is not None:
                    on_progress(have, total)
    if have < total:
        raise ValueError(f"the connection ended after {have} of {total} bytes")
