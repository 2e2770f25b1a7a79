"""Take objects from peers by C-STORE, and answer C-ECHO."""

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_RELEASE_RQ
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from brainage.errors import BrainageError
from brainage.node.intake import HEADER_BYTES, Delivery, Intake
from brainage.node.limits import MB, NodeLimits
from brainage.node.peers import Certificates, Peer, may_connect, may_send
from brainage.node.spool import Spool
from brainage.node.transport import close, make_server
from brainage.scans.dicom.pixels import PACKED_SYNTAXES, PLAIN_SYNTAXES

# Messages that wait for their answer; a peer that does not wait for it is slowed down.
_WAITING = 2
_TELL_AGAIN_S = 60.0


@dataclass(frozen=True)
class Listening:
    """Where and to whom the node listens.

    Attributes
    ----------
    title, host : str
        AE title of the node, and the address to listen at.
    port : int
        Port; 0 takes a free one.
    peers : sequence of Peer
        Who may send.
    certificates : Certificates
        With one of the node's own, it speaks TLS alone.
    """

    title: str
    host: str
    port: int
    peers: Sequence[Peer]
    certificates: Certificates = field(default_factory=Certificates)


class Receiver:
    """Listens until it is closed.

    Parameters
    ----------
    spool : Spool
        Where objects go.
    tell : callable
        Gets lines for the log.

    Raises
    ------
    ConfigError
        If a certificate cannot be loaded.
    BrainageError
        If the address cannot be had.
    """

    def __init__(
        self,
        where: Listening,
        spool: Spool,
        limits: NodeLimits,
        tell: Callable[[str], None],
    ) -> None:
        self._where, self._limits, self._tell = where, limits, tell
        self._intake = Intake(spool, self._tell_seldom)
        self._deliveries: weakref.WeakKeyDictionary[Association, Delivery] = (
            weakref.WeakKeyDictionary()
        )
        self._told: dict[str, float] = {}
        handlers = [
            (evt.EVT_REQUESTED, self._check_peer),
            (evt.EVT_PDU_RECV, self._count),
            (evt.EVT_C_STORE, self._store),
        ]
        try:
            self._server = make_server(
                _make_entity(where.title, limits),
                (where.host, where.port),
                handlers,
                ssl_context=where.certificates.serve(),
                accepts=self._accepts,
                on_end=self._end,
                idle_s=limits.idle_s,
                association_s=limits.association_s,
            )
        except OSError as error:
            problem = f"cannot listen at {where.host}:{where.port} ({error.strerror or error})."
            raise BrainageError("--port", problem, "Choose another --port or --host.") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,))
        self._thread.daemon = True
        self._thread.start()

    @property
    def port(self) -> int:
        """Port that it listens at."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening; what is half sent is broken off."""
        self._server.end()
        self._thread.join()

    def _accepts(self, address: str) -> bool:
        known = may_connect(self._where.peers, address)
        if not known:
            self._tell_seldom(f"hung up on {address}: no peer of --allow has this address")
        return known

    def _check_peer(self, event: Any) -> None:
        association: Association = event.assoc
        request, address = association.requestor.primitive, association.requestor.address
        if request is None or not may_send(
            self._where.peers, str(request.calling_ae_title), str(address)
        ):
            self._tell_seldom(f"refused {address}: --allow has not its calling AE title")
            association.acse.send_reject(0x01, 0x01, 0x03)
            association.kill()

    def _count(self, event: Any) -> None:
        """Bound the object that is coming, and hold back who sends before the answer."""
        association: Association = event.assoc
        delivery = self._delivery(association)
        if isinstance(event.pdu, A_RELEASE_RQ) and association.dimse.msg_queue.empty():
            # On disk before the release is answered: the sender takes all for delivered then.
            self._intake.end(delivery, released=True)
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            content = item.presentation_data_value
            delivery.size += len(content)
            if content and content[0] & 2:
                delivery.size = 0
        if delivery.size > self._limits.object_mb * MB + HEADER_BYTES:
            self._tell_seldom("hung up on a peer: its object is larger than --max-object-mb")
            close(association)
        waiting = association.dimse.msg_queue
        while waiting.qsize() >= _WAITING and association.is_established:
            time.sleep(0.001)

    def _store(self, event: Any) -> int:
        """Answer a C-STORE once its object is on disk."""
        request = event.request
        try:
            content = event.encoded_dataset()
        except Exception:  # no data set, or UIDs that are none
            content = b""
        uids = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        return self._intake.store(self._delivery(event.assoc), *uids, content)

    def _delivery(self, association: Association) -> Delivery:
        return self._deliveries.setdefault(association, Delivery(id(association)))

    def _end(self, association: Association) -> None:
        self._intake.end(self._delivery(association), released=association.is_released)

    def _tell_seldom(self, line: str) -> None:
        """Tell a line that a peer can provoke at will, at most once a minute."""
        now = time.monotonic()
        if now - self._told.get(line, -_TELL_AGAIN_S) >= _TELL_AGAIN_S:
            if len(self._told) > 1000:
                self._told.clear()
            self._told[line] = now
            self._tell(line)


def _make_entity(title: str, limits: NodeLimits) -> AE:
    entity = AE(title)
    entity.require_called_aet = True
    entity.maximum_associations = limits.associations
    entity.acse_timeout = min(limits.idle_s, 30.0)
    entity.dimse_timeout = entity.network_timeout = limits.idle_s
    entity.maximum_pdu_size = 2**17
    entity.add_supported_context(Verification)
    syntaxes = [*PLAIN_SYNTAXES, *PACKED_SYNTAXES]
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), syntaxes)
    return entity
