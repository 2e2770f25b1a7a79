"""Decide on each object that has come: whose it is, and whether it can be kept."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pydicom.filereader import read_partial
from pydicom.tag import Tag

from brainage.node.spool import NoRoomError, Spool, code
from brainage.scans.dicom.source import MANUFACTURER

# PS3.4, table B.2-1.
SUCCESS, NO_ROOM, MISMATCH, UNREADABLE = 0x0000, 0xA700, 0xA900, 0xC000
# Patient and study stand in the first kilobytes; a sequence that is longer is no header to trust.
HEADER_BYTES = 2**19
_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
_WANTED_NAMES = (*_KEYWORDS, "Manufacturer")
_WANTED = [Tag(name) for name in _WANTED_NAMES]
_LAST_TAG = Tag("SeriesInstanceUID")
# Objects of an association that are remembered until it is known what study they are of.
_MOST_UNREAD = 1000
# Where a header cannot be read, its study's UID may still stand in it (PS3.5, section 7.1).
_STUDY_UID = re.compile(rb"\x20\x00\x0d\x00(?:UI..|..\x00\x00)([0-9.]{5,64})", re.DOTALL)


@dataclass
class Delivery:
    """What an association has sent.

    Attributes
    ----------
    sender : int
        Names the association.
    size : int
        Bytes of the object that is coming.
    last : str
        Study of the object before.
    unread : list of str
        Objects since then of which no study can be told: they may be of it, or of the next.
    """

    sender: int
    size: int = 0
    last: str = ""
    unread: list[str] = field(default_factory=list)


class Intake:
    """Keeps objects in the queue, and notes against their studies those that it cannot keep.

    Parameters
    ----------
    spool : Spool
        Queue.
    tell : callable
        Gets lines for the log that a peer can provoke at will.
    """

    def __init__(self, spool: Spool, tell: Callable[[str], None]) -> None:
        self._spool, self._tell = spool, tell

    def store(self, delivery: Delivery, class_uid: str, instance_uid: str, content: bytes) -> int:
        """Keep an object that was announced under these UIDs; returns the status to answer."""
        header = _read_header(content)
        status = _judge(header, class_uid, instance_uid)
        if status == SUCCESS and header["Manufacturer"] == MANUFACTURER:
            return SUCCESS  # a result of ours that an archive routes back: never measured again
        name = code(instance_uid)
        study_uid = header["StudyInstanceUID"] or _find_study(content)
        if not study_uid:
            delivery.unread.append(name)
            del delivery.unread[_MOST_UNREAD:]
            self._lose(delivery, [name] if delivery.last else [])
            return status
        delivery.last = code(study_uid)
        self._lose(delivery, delivery.unread)
        delivery.unread.clear()
        if status != SUCCESS:
            self._lose(delivery, [name])
            return status
        try:
            self._spool.store(study_uid, instance_uid, content, delivery.sender)
        except NoRoomError as lack:
            self._tell(f"objects are refused: {lack}")
            return NO_ROOM
        return SUCCESS

    def end(self, delivery: Delivery, *, released: bool) -> None:
        """Settle a delivery that has ended, by a release or otherwise."""
        if delivery.unread and not delivery.last:
            # No study at all: its objects are one, named by the first.
            delivery.last = delivery.unread[0]
            self._lose(delivery, delivery.unread)
        self._spool.settle(delivery.sender, released=released)

    def _lose(self, delivery: Delivery, names: list[str]) -> None:
        for name in names:
            self._spool.lose(delivery.last, f"{name}.dcm", delivery.sender)


def _judge(header: dict[str, str], class_uid: str, instance_uid: str) -> int:
    """Return the status of an object by its header and what it was announced as."""
    if not all(header[keyword] for keyword in _KEYWORDS):
        return UNREADABLE
    announced = class_uid, instance_uid
    return SUCCESS if announced == (header["SOPClassUID"], header["SOPInstanceUID"]) else MISMATCH


def _read_header(content: bytes) -> dict[str, str]:
    """Read what says where an object belongs, and no further than that; damaged: empty."""
    try:
        header = read_partial(
            io.BytesIO(content[:HEADER_BYTES]),
            stop_when=lambda tag, vr, length: tag > _LAST_TAG,
            specific_tags=list(_WANTED),
        )
        return {name: str(header.get(name) or "").strip() for name in _WANTED_NAMES}
    except Exception:  # a damaged header makes pydicom raise nearly anything
        return dict.fromkeys(_WANTED_NAMES, "")


def _find_study(content: bytes) -> str:
    """Find the study's UID in a header that cannot be read; empty: it is not there."""
    match = _STUDY_UID.search(content[:HEADER_BYTES])
    return match[1].decode() if match else ""
