"""Refuse connections to other machines: in the tests, and in every Python process they start.

Python imports a module of this name at its start where PYTHONPATH has the folder. What is refused
is also noted in a file, since a library may swallow the error; tests/conftest.py reads it.

Some packages are hidden as well: `import monai` loads whatever it may find a use for.
"""

import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

NOTES_VARIABLE = "BRAINAGE_TEST_CONNECTIONS"
# They take ten of the twelve seconds of `import monai`, and nothing here needs them: a grammar that
# jsonschema compiles, and networks for language.
HIDDEN = ("rfc3987_syntax", "transformers")
_LOCAL_NAMES = ("", "localhost", "ip6-localhost", socket.gethostname())


def is_local(host: Any) -> bool:
    """Whether a host's name or address is this machine."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if text is None or text in _LOCAL_NAMES:
        return True
    try:
        address = ip_address(str(text).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: refuse what would leave the machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = arguments[:2]
        if not isinstance(address, tuple):
            return  # a path, or a socket that is connected already
        # "Connecting" a datagram socket sends nothing: dask asks so for its own address.
        if event == "socket.connect" and sock.type == socket.SOCK_DGRAM:
            return
        host = address[0]
    else:
        return
    if not is_local(host):
        if notes := os.environ.get(NOTES_VARIABLE):
            with Path(notes).open("a") as stream:
                stream.write(f"{event} {host!r} by {sys.argv[:3]}\n")
        raise ConnectionRefusedError(f"tests may not connect to {host!r}")


sys.addaudithook(watch)
sys.modules.update(dict.fromkeys(HIDDEN))
