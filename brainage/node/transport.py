"""pynetdicom's server with bounds that it leaves open.

A PDU may announce 4 GiB, come byte by byte or not at all; a TLS handshake may never end; a thread
may die of a damaged message and leave its connection. Here each costs its sender the connection.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

# A-ASSOCIATE-RQ with 128 presentation contexts has some 30 KB; P-DATA is at most what we offer.
MAX_PDU_BYTES = 2**20
_PIECE = 2**16
_HANDSHAKE_S = 10.0
# Connections that are at no association yet, besides those that are.
_SPARE = 8


class BoundedSocket(AssociationSocket):
    """Socket of an association that reads no more and no longer than it should.

    Attributes
    ----------
    deadline : float
        When the association has lasted long enough, by `time.monotonic`.
    """

    deadline = float("inf")

    def recv(self, nr_bytes: int) -> bytearray:
        """Read a part of a PDU.

        Raises
        ------
        OSError
            If it is too long, takes too long, or the association has lasted too long.
        """
        connection = self.socket
        if connection is None or nr_bytes > MAX_PDU_BYTES:
            raise OSError("the PDU is too long, or the connection is closed")
        received, start = bytearray(), time.monotonic()
        end = min(self.deadline, start + (connection.gettimeout() or float("inf")))
        while len(received) < nr_bytes:
            if time.monotonic() > end:
                raise TimeoutError
            piece = connection.recv(min(_PIECE, nr_bytes - len(received)))
            if not piece:
                break
            received += piece
        return received

    def close(self) -> None:
        """Close also what the peer has closed before."""
        connection = self.socket
        super().close()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


class _Handler(RequestHandler):
    server: "BoundedServer"

    def handle(self) -> None:
        """Shake hands where that holds up nobody else, then begin the association."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(_HANDSHAKE_S)
            self.request.do_handshake()
        self.request.settimeout(self.server.idle_s)
        super().handle()

    def _create_association(self) -> Association:
        association = super()._create_association()
        # The base class has put a socket without bounds, and told the state machine of it.
        association.dul.event_queue.get_nowait()
        bounded = BoundedSocket(association, client_socket=self.request)
        bounded.deadline = time.monotonic() + self.server.association_s
        association.dul.socket = bounded
        # A peer that answers is there; one that does not has broken off.
        association.network_timeout_response = "A-RELEASE"
        self.server.watch(association)
        return association


class BoundedServer(ThreadedAssociationServer):
    """Server that takes known addresses, so many connections at a time, and tells their ends.

    Parameters
    ----------
    accepts : callable
        Whether an address may connect.
    on_end : callable
        Called with each association that has ended, however it did.
    idle_s, association_s : float
        As in `brainage.node.limits.NodeLimits`.
    """

    daemon_threads = True
    # Callers that wait to be accepted; with the usual 5, a burst of them waits for seconds.
    request_queue_size = 64

    def __init__(
        self,
        *arguments: Any,
        accepts: Callable[[str], bool],
        on_end: Callable[[Association], None],
        idle_s: float,
        association_s: float,
        **options: Any,
    ) -> None:
        self.idle_s, self.association_s = idle_s, association_s
        self._accepts, self._on_end = accepts, on_end
        self._watched: list[Association] = []
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        super().__init__(*arguments, **{**options, "request_handler": _Handler})

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; its handshake comes later, in a thread of its own."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.settimeout(_HANDSHAKE_S)
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Hang up on unknown addresses, and on all while there are too many connections."""
        self._connections = [one for one in self._connections if one.fileno() >= 0]
        is_full = len(self._connections) >= self.ae.maximum_associations + _SPARE
        if is_full or not self._accepts(client_address[0]):
            return False
        self._connections.append(request)
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a failed handshake is the peer's affair."""

    def watch(self, association: Association) -> None:
        """Have the end of an association told."""
        with self._lock:
            self._watched.append(association)

    def service_actions(self) -> None:
        """Tell of associations that have ended, and take away what is left of them."""
        super().service_actions()
        with self._lock:
            ended = [one for one in self._watched if one.ident is not None and not one.is_alive()]
            self._watched = [one for one in self._watched if one not in ended]
            running = list(self._watched)
        for association in ended:
            close(association)
            self._on_end(association)
        for association in running:
            connection = association.dul.socket
            if isinstance(connection, BoundedSocket) and time.monotonic() > connection.deadline:
                close(association)

    def end(self) -> None:
        """Stop listening and close every connection."""
        super().shutdown()
        for association in self._watched:
            close(association)


def close(association: Association) -> None:
    """Close an association's connection and have its threads end."""
    association.dul.kill_dul()
    if association.dul.socket is not None:
        association.dul.socket.close()


def make_server(
    entity: AE, address: tuple[str, int], handlers: list[Any], **options: Any
) -> BoundedServer:
    """Listen at an address; `options` are those of `BoundedServer` and ``ssl_context``.

    Raises
    ------
    OSError
        If the address cannot be had.
    """
    server = entity.make_server(
        address, evt_handlers=handlers, server_class=BoundedServer, **options
    )
    assert isinstance(server, BoundedServer)
    entity._servers.append(server)  # `shutdown` takes it out again
    return server
