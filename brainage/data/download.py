"""Downloads that go on where they broke off, and are checked before they count."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast

from brainage.errors import ConfigError

TIMEOUT_S = 60
_CHUNK_BYTES = 2**20
_AGAIN = "Run the command again: it goes on where it stopped."


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Download a file, unless it is there; a part of an earlier try is taken up.

    Parameters
    ----------
    url : str
        http or https.
    target : pathlib.Path
        Appears only when all bytes have come; until then they lie in ``NAME.part``.
    sha256 : str
        Expected hash, where its publishers tell it.
    on_progress : callable, optional
        Called with (bytes here, bytes in all); 0 in all where the server does not say.

    Raises
    ------
    ConfigError
        If the server cannot be reached, the connection breaks, or the hash is another.
    """
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, on_progress)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(url, f"cannot be downloaded ({reason}).", _AGAIN) from error
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 and digest != sha256:
        part.unlink()
        problem = f"expected SHA-256 {sha256}, got {digest}."
        raise ConfigError(url, problem, "Download it again; if that fails, the source has changed.")
    part.replace(target)


def _fetch(url: str, part: Path, on_progress: Callable[[int, int], None] | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    if request.type not in ("http", "https"):
        raise ValueError(f"expected http or https, got {request.type}")
    try:
        response = cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT_S))
    except urllib.error.HTTPError as error:
        whole = error.headers.get("Content-Range", "").rpartition("/")[2]
        if error.code == 416 and whole == str(have):
            return  # 416: nothing lies beyond what is here already
        raise
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
