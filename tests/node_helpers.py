"""A node on a free port, an archive that keeps what it gets, and a scanner that sends."""

import contextlib
import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from brainage.node.limits import NodeLimits
from brainage.node.peers import Certificates, Destination, parse_peer
from brainage.node.receive import Listening
from brainage.node.service import NodeSettings
from brainage.sandbox.parent import Limits
from tests.dicom_helpers import make_head, write_series

QUICK = NodeLimits(quiet_s=0.3, idle_s=5.0, keep_free_mb=1, child=Limits(2048, 60.0))
FAKE = "tests.node_helpers:measure_nothing"
PEERS = tuple(parse_peer(text) for text in ("SCANNER@127.0.0.1", "OTHER@10.0.0.0/8"))
HEAD = make_head((8, 8, 24))


def settings_for(queue: Path, port: int, **changes: Any) -> NodeSettings:
    """Return settings of a node whose results go to a port of this machine."""
    certificates = changes.pop("certificates", Certificates())
    listening = Listening("BRAINAGE", "127.0.0.1", changes.pop("own_port", 0), PEERS, certificates)
    options: dict[str, Any] = {"limits": QUICK, "task": FAKE, "argument": {}, **changes}
    return NodeSettings(listening, Destination("ARCHIVE", "127.0.0.1", port), queue, **options)


def measure_nothing(argument: dict[str, Any]) -> dict[str, Any]:
    """Choose as the node's task does, then make results of no measurement."""
    from brainage.errors import BrainageError
    from brainage.files import atomic_write_bytes, is_disk_full
    from brainage.node.study import choose_t1, read_sources

    try:
        objects = Path(argument["objects"])
        chosen, note = choose_t1(objects)
        source = read_sources(objects, chosen, argument["study"])[0]
        for kind in (Comprehensive3DSRStorage, EncapsulatedPDFStorage):
            made = make_result(source, kind)
            stream = io.BytesIO()
            made.save_as(stream, enforce_file_format=True)
            atomic_write_bytes(Path(argument["results"]) / f"{kind}.dcm", stream.getvalue())
    except BrainageError as error:
        return {"later": "the disk is full"} if is_disk_full(error) else {"refused": error.reason}
    return {"done": note}


def make_result(source: Dataset, kind: str) -> FileDataset:
    """Make an object of a series' patient and study, the same one each time."""
    uids = [
        generate_uid(entropy_srcs=[source.SeriesInstanceUID, kind, part]) for part in ("s", "o")
    ]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(kind), uids[1]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = kind, uids[1], uids[0]
    for name in ("PatientID", "PatientName", "StudyInstanceUID"):
        setattr(made, name, source.get(name))
    made.Modality = "SR" if kind == Comprehensive3DSRStorage else "DOC"
    made.Manufacturer = "The brainage developers"
    return made


class Archive:
    """Keeps what it gets; answers what it is told to.

    Attributes
    ----------
    kept : list of pydicom.dataset.Dataset
        What came, also twice.
    status : int
        Its answer.
    """

    def __init__(self) -> None:
        self.kept: list[Dataset] = []
        self.status = 0x0000
        entity = AE("ARCHIVE")
        entity.supported_contexts = AllStoragePresentationContexts
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        assert self._server is not None
        self.port = int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        if self.status == 0:
            self.kept.append(event.dataset)
        return self.status

    def of(self, study_uid: str) -> list[Dataset]:
        """Return what came for a study."""
        return [one for one in self.kept if one.StudyInstanceUID == study_uid]

    def close(self) -> None:
        """Stop."""
        assert self._server is not None
        self._server.shutdown()


@contextlib.contextmanager
def call(port: int, calling: str = "SCANNER", called: str = "BRAINAGE") -> Iterator[Association]:
    """Be associated; released at the end, unless it is over by then."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    for kind in (MRImageStorage, CTImageStorage, Comprehensive3DSRStorage, Verification):
        entity.add_requested_context(kind, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send(port: int, paths: Iterable[Path], calling: str = "SCANNER") -> list[int]:
    """Send files over one association; returns the statuses."""
    with call(port, calling) as association:
        assert association.is_established
        return [int(association.send_c_store(pydicom.dcmread(path)).Status) for path in paths]


def send_bytes(association: Association, content: bytes, instance_uid: str) -> int | None:
    """Send a data set as it is, damaged or not; returns the status, None if there was none."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MRImageStorage, instance_uid
    request.DataSet = io.BytesIO(content)
    contexts = [
        one for one in association.accepted_contexts if one.abstract_syntax == MRImageStorage
    ]
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.0001)
    association.dimse.send_msg(request, contexts[0].context_id or 0)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return None if answer is None else int(answer.Status or 0)


def make_study(folder: Path, patient: str = "P1", **changes: Any) -> tuple[str, list[Path]]:
    """Write one series as a study of its own; returns its UID and its files."""
    uid = changes.pop("StudyInstanceUID", None) or str(generate_uid())
    identity = {"PatientID": patient, "PatientName": f"Name^{patient}", "StudyInstanceUID": uid}
    return uid, write_series(folder, HEAD, **{**identity, **changes})


def read_ledger(queue: Path) -> list[dict[str, str]]:
    """Return the lines of a node's ledger."""
    path = queue / "ledger.csv"
    return list(csv.DictReader(path.open())) if path.exists() else []


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until a condition holds; returns its value, or fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {seconds:g} s")
