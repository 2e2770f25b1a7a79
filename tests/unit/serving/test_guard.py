"""Hosts, headers and upload bounds, without a server."""

import asyncio
from pathlib import Path

import pytest
import streamlit

from brainage.serving.guard import Guard, host_name
from brainage.serving.settings import ServerLimits

PAGE = Path(streamlit.__file__).parent / "static" / "index.html"
LIMITS = ServerLimits(upload_mb=1, files=2, session_mb=2)


def ask(path="/", host="localhost", method="GET", kind="http", stored=(0, 0), **headers):
    """Status and headers of an answer through the guard."""
    sent = []

    async def inner(scope, receive, send):
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"in"})
        else:
            await send({"type": "websocket.accept"})

    async def receive():
        return {}

    async def send(message):
        sent.append(message)

    pairs = [(b"host", host.encode())]
    pairs += [
        (name.replace("_", "-").encode(), str(v).encode("latin-1")) for name, v in headers.items()
    ]
    scope = {"type": kind, "path": path, "method": method, "headers": pairs}
    guard = Guard(inner, ["brain.example"], LIMITS, lambda session: stored, PAGE)
    asyncio.run(guard(scope, receive, send))
    first = sent[0]
    return first.get("status", first["type"]), dict(first.get("headers", ()))


@pytest.mark.parametrize("host", ["localhost:8501", "127.0.0.1", "[::1]:8501", "BRAIN.example"])
def test_known_host_is_answered(host):
    assert ask(host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "", "localhost.evil.example", "evil:localhost"])
def test_foreign_host_is_refused(host):
    assert ask(host=host)[0] == 421
    assert ask(host=host, kind="websocket")[0] == "websocket.close"


def test_every_answer_carries_the_headers():
    for host in ("localhost", "evil.example"):
        headers = ask(host=host)[1]
        assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"x-frame-options"] == b"DENY"
        assert headers[b"referrer-policy"] == b"no-referrer"


def test_policy_names_no_foreign_host_and_no_eval():
    policy = ask()[1][b"content-security-policy"].decode()
    assert "http" not in policy and "*" not in policy and "'unsafe-eval'" not in policy


UPLOAD = "/_stcore/upload_file/session/file"


@pytest.mark.parametrize(
    ("length", "stored", "status"),
    [(1000, (0, 0), 200), (3 * 2**20, (0, 0), 413), (1000, (2, 0), 413), (2**20, (1, 2**21), 413)],
)
def test_upload_is_bounded_before_it_is_read(length, stored, status):
    assert ask(UPLOAD, method="PUT", stored=stored, content_length=length)[0] == status


def test_upload_of_unknown_length_is_refused():
    assert ask(UPLOAD, method="PUT")[0] == 411


@pytest.mark.parametrize("length", ["\xb2", "-1", "1e3", " 7"])
def test_length_that_is_no_number_is_refused(length):
    assert ask(UPLOAD, method="PUT", content_length=length)[0] == 411


def test_statistics_and_agents_have_no_address():
    assert ask("/_stcore/metrics")[0] == 404
    assert ask("/_stcore/agent/openapi.json")[0] == 404


def test_host_name_drops_port_and_brackets():
    assert host_name("[::1]:80") == "::1"
    assert host_name("A.example:80") == "a.example"
