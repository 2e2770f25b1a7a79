"""`brainage node`: a DICOM node that measures what it is sent."""

import os
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from brainage.extras import check_extra
from brainage.model.released import choose_model
from brainage.node.limits import NodeLimits
from brainage.node.peers import Certificates
from brainage.plotting.planes import RADIOLOGICAL, Orientation
from brainage.types import DEFAULT_MAP
from brainage.workflows.console import say
from brainage.workflows.models import resolve_model


@dataclass(frozen=True)
class NodeOptions:
    """What the command line says of a node.

    Attributes
    ----------
    title, host : str
        AE title, and the address to listen at.
    port : int
        Port.
    send_to : str
        ``TITLE@HOST:PORT`` of the archive.
    allow : tuple of str
        ``TITLE@ADDRESS`` of each peer that may send.
    queue : pathlib.Path
        Folder of queue and ledger.
    map_method : str
        As in `brainage.workflows.report.ReportOptions`.
    orientation : {"radiological", "neurological"}
        Of all pictures.
    age_from_dicom : bool
        Whether PatientAge and PatientSex are taken, for the gap.
    certificates : Certificates
        For TLS.
    send_tls : bool
        Whether the archive is called over TLS.
    limits : NodeLimits
        Bounds.
    """

    title: str
    host: str
    port: int
    send_to: str
    allow: tuple[str, ...]
    queue: Path
    map_method: str = DEFAULT_MAP
    orientation: Orientation = RADIOLOGICAL
    age_from_dicom: bool = False
    certificates: Certificates = field(default_factory=Certificates)
    send_tls: bool = False
    limits: NodeLimits = field(default_factory=NodeLimits)


def serve_node(options: NodeOptions, model: str | Path | None = None) -> None:
    """Run a node until it is interrupted; what is not finished then goes on with the next start.

    Raises
    ------
    MissingExtraError
        If pynetdicom, highdicom, dcm2niix or Typst is not installed.
    ConfigError
        If a title, an address or a certificate is none.
    BundleError
        If the model is not there.
    BrainageError
        If queue or port cannot be had.
    """
    for module, extra in (("pynetdicom", "dicom"), ("highdicom", "dicom"), ("dcm2niix", "dicom")):
        check_extra(module, extra)
    check_extra("typst", "report")
    from brainage.node.peers import parse_destination, parse_peer, parse_title
    from brainage.node.receive import Listening
    from brainage.node.service import NodeSettings, run_node

    chosen = choose_model(model)
    folder, version = resolve_model(chosen)
    argument = {
        "model": str(folder.resolve()),
        "model_name": str(chosen) if version else folder.resolve().name,
        "model_version": version,
        "map_method": options.map_method,
        "orientation": options.orientation,
        "age_from_dicom": options.age_from_dicom,
    }
    title = parse_title(options.title, "--ae-title")
    peers = tuple(parse_peer(text) for text in options.allow)
    listening = Listening(title, options.host, options.port, peers, options.certificates)
    destination = parse_destination(options.send_to)
    settings = NodeSettings(
        listening, destination, options.queue, argument, options.send_tls, options.limits
    )
    # What a prediction unpacks lies in the queue, where the next start finds and removes it.
    temporary = options.queue.resolve() / "temporary"
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    with run_node(settings, say) as node:
        scheme = "over TLS " if options.certificates.certificate else ""
        say(f"{title} listens {scheme}at {options.host}:{node.port}; results: {destination}")
        threading.Event().wait()
