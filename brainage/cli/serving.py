"""Commands that serve: `app`, `mlflow` and `node`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from brainage.cli.command import SERVING, command
from brainage.cli.options import AnyModelOption, PortOption, TrackingOption
from brainage.node.limits import NodeLimits

if TYPE_CHECKING:
    from brainage.node.peers import Certificates


@command(SERVING)
def app(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: PortOption = 8501,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Name by which browsers may call; also BRAINAGE_HOSTS."),
    ] = None,
    orientation: Annotated[
        Literal["radiological", "neurological"] | None,
        typer.Option(
            "--orientation",
            help="Patient's left on the right, or on the left; also BRAINAGE_ORIENTATION.",
            show_default="radiological",
        ),
    ] = None,
) -> None:
    """Serve the page for people with a scan and no command line. Models: BRAINAGE_MODELS."""
    from brainage.workflows.serve import serve_app

    serve_app(host, port, allow_host or [], orientation or "")


@command(SERVING)
def mlflow(
    tracking_uri: TrackingOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: PortOption = 5000,
    upload: Annotated[
        bool,
        typer.Option("--upload", help="Send what waits in ./mlflow-pending.jsonl, and end."),
    ] = False,
) -> None:
    """Show the experiments in the browser, or send what an unreachable tracker missed."""
    from brainage.extras import check_extra

    check_extra("mlflow", "tracking")
    from brainage.workflows import serve as job

    if upload:
        job.upload(tracking_uri)
    else:
        raise typer.Exit(job.serve_mlflow(tracking_uri, host, port))


def _mb(option: str, help_: str) -> typer.models.OptionInfo:
    return typer.Option(option, min=1, help=help_)


@dataclass(frozen=True)
class Bounds:
    """What the node's peers and predictions may use."""

    quiet: Annotated[
        float,
        typer.Option(
            "--quiet", min=1.0, help="Seconds without a new object after which a study is whole."
        ),
    ] = NodeLimits.quiet_s
    max_associations: Annotated[
        int, typer.Option("--max-associations", min=1, help="Associations at a time.")
    ] = NodeLimits.associations
    idle: Annotated[
        float,
        typer.Option("--idle", min=1.0, help="Seconds that an association may be silent."),
    ] = NodeLimits.idle_s
    max_association: Annotated[
        float,
        typer.Option("--max-association", min=1.0, help="Seconds that an association may last."),
    ] = NodeLimits.association_s
    max_object_mb: Annotated[int, _mb("--max-object-mb", "Largest object.")] = NodeLimits.object_mb
    max_study_mb: Annotated[int, _mb("--max-study-mb", "Largest study.")] = NodeLimits.study_mb
    max_queue_mb: Annotated[int, _mb("--max-queue-mb", "Most that the queue holds.")] = (
        NodeLimits.queue_mb
    )
    keep_free_mb: Annotated[int, _mb("--keep-free-mb", "Disk space that stays free.")] = (
        NodeLimits.keep_free_mb
    )
    max_predict: Annotated[
        float, typer.Option("--max-predict", min=1.0, help="Seconds that a prediction may take.")
    ] = NodeLimits.child.seconds
    max_memory_mb: Annotated[
        int, typer.Option("--max-memory-mb", min=1024, help="Memory of a prediction.")
    ] = NodeLimits.child.memory_mb

    def limits(self) -> NodeLimits:
        """Collect them for the node."""
        return NodeLimits(
            self.quiet,
            self.max_associations,
            self.idle,
            self.max_association,
            self.max_object_mb,
            self.max_study_mb,
            self.max_queue_mb,
            self.keep_free_mb,
            replace(NodeLimits.child, memory_mb=self.max_memory_mb, seconds=self.max_predict),
        )


@dataclass(frozen=True)
class Encryption:
    """Certificates, and where they are used."""

    tls_certificate: Annotated[
        Path | None,
        typer.Option("--tls-certificate", help="PEM certificate: listen over TLS alone."),
    ] = None
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="PEM key of it, without password.")
    ] = None
    tls_authority: Annotated[
        Path | None,
        typer.Option("--tls-authority", help="PEM authority that peers' certificates must be of."),
    ] = None
    send_tls: Annotated[bool, typer.Option("--send-tls", help="Call the archive over TLS too.")] = (
        False
    )

    def certificates(self) -> "Certificates":
        """Collect them for the node."""
        from brainage.node.peers import Certificates

        return Certificates(self.tls_certificate, self.tls_key, self.tls_authority)


@command(SERVING)
def node(
    bounds: Bounds,
    encryption: Encryption,
    send_to: Annotated[
        str, typer.Option("--send-to", help="Archive that gets the results: TITLE@HOST:PORT.")
    ],
    allow: Annotated[
        list[str],
        typer.Option("--allow", help="Who may send: TITLE@ADDRESS or TITLE@NETWORK/BITS."),
    ],
    queue: Annotated[Path, typer.Option("--queue", help="Folder of the queue and the ledger.")],
    ae_title: Annotated[
        str, typer.Option("--ae-title", help="AE title by which peers call.")
    ] = "BRAINAGE",
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: PortOption = 11112,
    model: AnyModelOption = None,
    map_: Annotated[
        Literal["integrated_gradients", "occlusion", "smoothgrad", "none"],
        typer.Option("--map", help="Map of what makes this brain look older or younger."),
    ] = "integrated_gradients",
    orientation: Annotated[
        Literal["radiological", "neurological"],
        typer.Option("--orientation", help="Patient's left on the right, or on the left."),
    ] = "radiological",
    age_from_dicom: Annotated[
        bool, typer.Option("--age-from-dicom", help="Take age and sex of the header, for the gap.")
    ] = False,
) -> None:
    """Take studies by DICOM, predict their T1, and send the results to an archive."""
    from brainage.workflows.inputs import check_model

    check_model(model)
    from brainage.workflows.node import NodeOptions, serve_node

    options = NodeOptions(
        title=ae_title,
        host=host,
        port=port,
        send_to=send_to,
        allow=tuple(allow),
        queue=queue,
        map_method="" if map_ == "none" else map_,
        orientation=orientation,
        age_from_dicom=age_from_dicom,
        certificates=encryption.certificates(),
        send_tls=encryption.send_tls,
        limits=bounds.limits(),
    )
    serve_node(options, model)
