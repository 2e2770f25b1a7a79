"""In front of every request: known hosts only, bounded uploads, and headers that browsers obey."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from brainage.serving.settings import ServerLimits

Message = MutableMapping[str, Any]
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CLOSED_PATHS = ("/_stcore/metrics", "/_stcore/agent")
_UPLOAD = re.compile(r"/_stcore/upload_file/(?P<session>[^/]+)/(?P<file>[^/]+)$")
# A multipart body is a little longer than the file in it.
_ENVELOPE_BYTES = 2**16


class Guard:
    """ASGI middleware.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    hosts : iterable of str
        Names under which the server may be called, without port; local ones always are.
    limits : ServerLimits
        Bounds of uploads.
    stored : callable
        Number and bytes of the files that a session holds already.
    page : pathlib.Path
        Static page that is served: browsers may run the scripts that stand in it, and no others.
    """

    def __init__(
        self,
        app: Any,
        hosts: Iterable[str],
        limits: ServerLimits,
        stored: Callable[[str], tuple[int, int]],
        page: Path,
    ) -> None:
        self._app, self._limits, self._stored = app, limits, stored
        self._policy = build_policy(page.read_text(encoding="utf-8"))
        self._hosts = {name.lower() for name in (*LOCAL_HOSTS, *hosts)}

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Refuse, or pass on with headers added."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        status, problem = self._refusal(scope)
        if status and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif status:
            await _answer(self._with_headers(send, ""), status, problem)
        elif scope["type"] == "http":
            await self._app(scope, receive, self._with_headers(send, scope["path"]))
        else:
            await self._app(scope, receive, send)

    def _with_headers(self, send: Any, path: str) -> Any:
        headers = security_headers(path, self._policy)
        added = [(k.encode(), v.encode()) for k, v in headers.items()]
        names = {name for name, _ in added} | {b"server"}

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                message["headers"] = [*kept, *added]
            await send(message)

        return send_on

    def _refusal(self, scope: Message) -> tuple[int, str]:
        """Status and words of a refusal; 0 if there is none."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if host_name(headers.get(b"host", "")) not in self._hosts:
            return 421, "This server does not answer under that name. Ask who runs it."
        if scope["path"].startswith(CLOSED_PATHS):
            return 404, "Not found."
        upload = _UPLOAD.search(scope["path"])
        if upload is None or scope.get("method") not in ("PUT", "POST"):
            return 0, ""
        length = headers.get(b"content-length", "")
        # Figures of other scripts are digits too, but not all are numbers to Python.
        if not (length.isascii() and length.isdigit()):
            return 411, "Say how long the file is (Content-Length)."
        limits, size = self._limits, int(length)
        if size > limits.upload_mb * 2**20 + _ENVELOPE_BYTES:
            return 413, f"A file may have at most {limits.upload_mb} MB."
        files, stored = self._stored(upload["session"])
        if files >= limits.files or stored + size > limits.session_mb * 2**20:
            return 413, f"At most {limits.files} files and {limits.session_mb} MB at a time."
        return 0, ""


def host_name(header: str) -> str:
    """Name in a Host header, without port and brackets, in lower case."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def security_headers(path: str, policy: str) -> dict[str, str]:
    """Headers of an answer; the fallback viewer is a page of its own, in a sandbox."""
    framed = path.endswith("/fallback.html")
    return {
        "content-security-policy": _SANDBOX if framed else policy,
        "x-frame-options": "SAMEORIGIN" if framed else "DENY",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    }


_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)


def build_policy(page: str) -> str:
    """Write the content security policy of a page: its own scripts run, and no others.

    Parameters
    ----------
    page : str
        HTML of the page.
    """
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return "; ".join(
        (
            "default-src 'self'",
            # Streamlit mounts a component's script as a blob.
            f"script-src 'self' blob: 'wasm-unsafe-eval' {allowed}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "frame-src 'self'",
            "frame-ancestors 'none'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    )


async def _answer(send: Any, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
