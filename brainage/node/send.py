"""Send results to the archive by C-STORE."""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE

from brainage.node.peers import Certificates, Destination

_KINDS = (Comprehensive3DSRStorage, EncapsulatedPDFStorage, SecondaryCaptureImageStorage)
_ANSWER_S = 30.0
# PS3.4, table B.2-1: failures for want of room pass; warnings (B000 to BFFF) say it was stored.
_NO_ROOM, _WARNING = 0xA7, 0xB


class UnreachableError(Exception):
    """The archive does not answer, or has no room now."""


class RefusedError(Exception):
    """The archive does not want an object."""


def send_files(
    files: Sequence[Path], title: str, destination: Destination, certificates: Certificates | None
) -> None:
    """Send objects over one association; each file is removed once the archive has it.

    Parameters
    ----------
    files : sequence of pathlib.Path
        Results.
    title : str
        AE title of the node.
    certificates : Certificates, optional
        To call over TLS.

    Raises
    ------
    UnreachableError, RefusedError
        What was sent before is gone from its folder.
    """
    entity = AE(title)
    entity.acse_timeout = entity.connection_timeout = _ANSWER_S
    entity.dimse_timeout = entity.network_timeout = 2 * _ANSWER_S
    for kind in _KINDS:
        entity.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    tls = None if certificates is None else (certificates.call(), destination.host)
    try:
        association = entity.associate(
            destination.host, destination.port, ae_title=destination.title, tls_args=tls
        )
    except (OSError, RuntimeError) as error:  # a name that cannot be resolved
        raise UnreachableError("its name is not known") from error
    if not association.is_established:
        said = "refuses the association" if association.is_rejected else "does not answer"
        raise UnreachableError(said)
    try:
        for path in files:
            try:
                status = association.send_c_store(pydicom.dcmread(path)).get("Status")
            except ValueError as error:
                raise RefusedError("does not take this kind of object") from error
            except RuntimeError as error:
                raise UnreachableError("broke off") from error
            _check(status)
            path.unlink()
    finally:
        association.release()


def _check(status: int | None) -> None:
    if status is None or status >> 8 == _NO_ROOM:
        raise UnreachableError("broke off" if status is None else "has no room")
    if status != 0 and status >> 12 != _WARNING:
        raise RefusedError(f"answered status {status:04X}")
