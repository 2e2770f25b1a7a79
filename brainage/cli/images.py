"""Commands on images: `brainage benchmark` and `brainage fetch`. Light: heavy imports inside."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import (
    BatchOption,
    BlocksOption,
    ConfigOption,
    DebugOption,
    DeviceOption,
    EpochsOption,
    LeaderOption,
    OutputOption,
    OverwriteOption,
    ProcessesOption,
    ReplicasOption,
    ResumeOption,
    SetOption,
    TrackingOption,
)
from brainage.types import METHODS

DataRootOption = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder of the data sets [default: $BRAINAGE_DATA or cache]."),
]


def benchmark(
    output: OutputOption,
    network: Annotated[
        str, typer.Option("--network", help="Settings in configs/images: resnet32, mlp, …")
    ] = "resnet32",
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="mnist, cifar10, … [default: the network's].")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help=f"One of {', '.join(METHODS)}.")
    ] = None,
    blocks: BlocksOption = None,
    cut_by: Annotated[
        str | None, typer.Option("--cut-by", help="Share out time, memory or parameters.")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Hidden heads: native, linear or conv.")
    ] = None,
    worker_reads: Annotated[
        str | None, typer.Option("--worker-reads", help="all, or own channels only.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers-per-block", min=1, help="Workers of a block.")
    ] = None,
    leader_fraction: LeaderOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the run.")] = None,
    train_limit: Annotated[
        int | None, typer.Option("--train-limit", min=2, help="Train on N images: reduced run.")
    ] = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    processes: ProcessesOption = 1,
    replicas: ReplicasOption = 1,
    tracking_uri: TrackingOption = None,
    debug: DebugOption = False,
) -> None:
    """Train a network on an image data set by one method, and write its test accuracy and cost."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.training.options import TrainOptions
        from brainage.workflows import benchmark as job
        from brainage.workflows.settings import resolve_config

        changes = {
            "images.dataset": dataset,
            "images.train_limit": train_limit,
            "learning.method": method,
            "learning.blocks": blocks,
            "learning.cut_by": cut_by,
            "learning.head": head,
            "learning.worker_reads": worker_reads,
            "learning.workers_per_block": workers,
            "learning.leader_fraction": leader_fraction,
            "training.epochs": epochs,
            "training.batch_size": batch_size,
            "seed": seed,
        }
        options = TrainOptions(
            output=output,
            resume=resume,
            overwrite=overwrite,
            device=device,
            tracking_uri=tracking_uri,
            processes=processes,
            replicas=replicas,
        )
        settings = resolve_config(network, config, changes, set_ or [], "images")
        job.benchmark(settings, options, data_root)


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set to download.")],
    data_root: DataRootOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of a cohort [default: its name].")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept the size and the terms of a cohort.")
    ] = False,
    base_url: Annotated[
        str, typer.Option("--base-url", help="Take a cohort's files from here instead.")
    ] = "",
    debug: DebugOption = False,
) -> None:
    """Download a public data set: images, or the cohorts ixi and oasis1 as BIDS. Can go on."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        if name in ("ixi", "oasis1"):
            from brainage.workflows import fetch_cohorts

            fetch_cohorts.fetch(name, output or Path(name), accepted=yes, base_url=base_url)
            return
        from brainage.workflows import benchmark

        benchmark.fetch(name, data_root)
