"""Who may send to the node, where results go, and by which certificates."""

import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainage.errors import ConfigError

# PS3.5, section 6.2, AE: at most 16 characters without backslash and control characters.
_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Peer:
    """Application entity that may send.

    Attributes
    ----------
    title : str
        Its AE title, the calling one.
    network : ipaddress.IPv4Network or ipaddress.IPv6Network
        Addresses that it may call from.
    """

    title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Destination:
    """Archive that gets the results.

    Attributes
    ----------
    title, host : str
        AE title, and name or address of the machine.
    port : int
        Where it listens.
    """

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Certificates:
    """PEM files for TLS.

    Attributes
    ----------
    certificate, key : pathlib.Path, optional
        The node's own.
    authority : pathlib.Path, optional
        Who must have signed the certificates of the others. Without it callers need none, and the
        system's authorities stand for the archive.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def serve(self) -> ssl.SSLContext | None:
        """Context of the port that listens; None where the node has no certificate.

        Raises
        ------
        ConfigError
            If a file cannot be read, or is no such file.
        """
        if self.certificate is None:
            if self.key is not None:
                raise ConfigError("--tls-key", "needs --tls-certificate.")
            return None
        return self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))

    def call(self) -> ssl.SSLContext:
        """Context of the calls to the archive.

        Raises
        ------
        ConfigError
            As `serve`.
        """
        return self._load(ssl.create_default_context(ssl.Purpose.SERVER_AUTH))

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            if self.authority is not None:
                context.load_verify_locations(self.authority)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            problem = f"cannot be loaded ({getattr(error, 'reason', None) or error})."
            remedy = "Give PEM files: certificate, its key without password, authority."
            raise ConfigError("--tls-certificate", problem, remedy) from error
        return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def parse_title(text: str, option: str) -> str:
    """Return an AE title.

    Raises
    ------
    ConfigError
        If it is none.

    Examples
    --------
    >>> parse_title("BRAINAGE", "--ae-title")
    'BRAINAGE'
    """
    if not _TITLE.fullmatch(text.strip()):
        problem = f"{text!r} is no AE title."
        raise ConfigError(option, problem, "Give 1 to 16 ASCII characters without backslash.")
    return text.strip()


def parse_peer(text: str) -> Peer:
    """Return who may send, from ``TITLE@ADDRESS`` or ``TITLE@NETWORK``.

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> parse_peer("SCANNER@10.0.0.0/24").network.num_addresses
    256
    """
    title, _, address = text.rpartition("@")
    try:
        network = ipaddress.ip_network(address.strip())
    except ValueError as error:
        problem = f"expected TITLE@ADDRESS, got {text!r}."
        raise ConfigError("--allow", problem, "Give SCANNER@10.0.0.5 or PACS@10.0.0.0/24.") from (
            error
        )
    return Peer(parse_title(title, "--allow"), network)


def parse_destination(text: str) -> Destination:
    """Return where results go, from ``TITLE@HOST:PORT``.

    Raises
    ------
    ConfigError
        If it is no such thing.

    Examples
    --------
    >>> parse_destination("ORTHANC@127.0.0.1:4242")
    Destination(title='ORTHANC', host='127.0.0.1', port=4242)
    """
    title, _, address = text.rpartition("@")
    host, _, port = address.rpartition(":")
    host = host.strip().removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _HIGHEST_PORT:
        problem = f"expected TITLE@HOST:PORT, got {text!r}."
        raise ConfigError("--send-to", problem, "Give for example ORTHANC@10.0.0.7:4242.")
    return Destination(parse_title(title, "--send-to"), host, int(port))


def may_connect(peers: Sequence[Peer], address: str) -> bool:
    """Tell whether an address is one of any peer's."""
    called = ipaddress.ip_address(address.partition("%")[0])
    return any(called in peer.network for peer in peers)


def may_send(peers: Sequence[Peer], title: str, address: str) -> bool:
    """Tell whether a title is a peer's that may call from this address."""
    return may_connect([peer for peer in peers if peer.title == title.strip()], address)
