"""Commands that train: `train`, `compare`, `benchmark`, `demo`; and what shapes a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from brainage.cli.command import LEARNING, command
from brainage.cli.options import (
    ConfigOption,
    DataRootOption,
    DeviceOption,
    Extraction,
    FoldsOption,
    MethodOption,
    NamedCohort,
    NetworkOption,
    OutputOption,
    OverwriteOption,
    OwnNetworkOption,
    PresetOption,
    ProcessesOption,
    RepeatsOption,
    ReplicasOption,
    ResumeOption,
    SamplesOption,
    SeedOption,
    SetOption,
    Settings,
    ThreadsOption,
    TrackingOption,
)
from brainage.types import HEADS

AddCohortOption = Annotated[
    list[str] | None,
    typer.Option(
        "--add-cohort",
        help="Another cohort beside it, taken whole; its folder is the site. Repeatable.",
    ),
]
LeaveSiteOutOption = Annotated[
    bool, typer.Option("--leave-site-out", help="Test each site on a model of the others.")
]


@dataclass(frozen=True)
class Running:
    """What happens to the folder of a run, where it trains, and what is told of it."""

    resume: ResumeOption = False
    overwrite: OverwriteOption = False
    device: DeviceOption = "auto"
    tracking_uri: TrackingOption = None

    def words(self, **more: Any) -> dict[str, Any]:
        """Collect them as keywords of the workflows."""
        return {
            "resume": self.resume,
            "overwrite": self.overwrite,
            "device": self.device,
            "tracking_uri": self.tracking_uri,
            **more,
        }

    def check(self) -> None:
        """Tell what is wrong before anything that takes time is loaded."""
        from brainage.workflows.inputs import check_device

        check_device(self.device)


@command(LEARNING)
def train(
    source: NamedCohort,
    output: OutputOption,
    settings: Settings,
    running: Running,
    add_cohort: AddCohortOption = None,
    preset: PresetOption = "cnn3d_light",
    network: OwnNetworkOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    folds: FoldsOption = "1",
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Repeat the folds with other splits and seeds.")
    ] = 1,
    leave_site_out: LeaveSiteOutOption = False,
    baselines: Annotated[
        str,
        typer.Option(
            "--baselines",
            help="constant, linear, gaussian_process, svr, volumes; or all, by commas.",
        ),
    ] = "constant,linear",
    check_leakage: Annotated[
        Literal["none", "linear", "network"],
        typer.Option("--check-leakage", help="Learn permuted ages with this model too."),
    ] = "linear",
    extraction: Extraction = Extraction(),
    processes: ProcessesOption = 1,
    replicas: ReplicasOption = 1,
) -> None:
    """Train on a cohort, test on held-out subjects, and write a model with its results."""
    from brainage.workflows.settings import parse_baselines, parse_folds

    parts = parse_folds(folds)
    config = settings.resolve(
        preset,
        draws_test=parts == 1 and not leave_site_out,
        network__name=network,
        learning__method=method,
        seed=seed,
    )
    options = running.words(
        folds=parts,
        repeats=repeats,
        leave_site_out=leave_site_out,
        baselines=parse_baselines(baselines),
        check_leakage=check_leakage,
        processes=processes,
        replicas=replicas,
    )
    cohort = source.options(extraction, add_cohort)
    running.check()

    from brainage.workflows import train as job

    job.train(cohort, output, config, **options)


@command(LEARNING)
def compare(
    source: NamedCohort,
    settings: Settings,
    running: Running,
    output: OutputOption = Path("comparison"),
    add_cohort: AddCohortOption = None,
    methods: Annotated[
        str, typer.Option("--methods", help="Methods, separated by commas.")
    ] = "bp,lfnn_l",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds, from `seed` on.")] = 1,
    preset: PresetOption = "cnn3d_light",
    network: OwnNetworkOption = None,
    folds: FoldsOption = "1",
    leave_site_out: LeaveSiteOutOption = False,
    extraction: Extraction = Extraction(),
) -> None:
    """Train several methods on the same folds and seeds, and set them side by side."""
    from brainage.workflows.settings import check_methods, parse_folds

    chosen = check_methods([part.strip() for part in methods.split(",") if part.strip()])
    parts = parse_folds(folds)
    draws_test = parts == 1 and not leave_site_out
    config = settings.resolve(preset, methods=chosen, draws_test=draws_test, network__name=network)
    options = running.words(folds=parts, leave_site_out=leave_site_out)
    cohort = source.options(extraction, add_cohort)
    running.check()

    from brainage.workflows import compare as job

    job.compare(cohort, output, chosen, seeds=seeds, config=config, **options)


@command(LEARNING)
def benchmark(
    output: OutputOption,
    settings: Settings,
    running: Running,
    network: Annotated[
        str,
        typer.Option("--network", help="Settings in configs/images, or package.module:function."),
    ] = "resnet32",
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="mnist, cifar10, …", show_default="the network's"),
    ] = None,
    method: MethodOption = None,
    cut_by: Annotated[
        str | None, typer.Option("--cut-by", help="Share out time, memory or parameters.")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help=f"Hidden heads: {', '.join(HEADS)}.")
    ] = None,
    worker_reads: Annotated[
        str | None, typer.Option("--worker-reads", help="all, or own channels only.")
    ] = None,
    workers_per_block: Annotated[
        int | None, typer.Option("--workers-per-block", min=1, help="Workers of a block.")
    ] = None,
    seed: SeedOption = None,
    train_limit: Annotated[
        int | None, typer.Option("--train-limit", min=2, help="Train on N images: reduced run.")
    ] = None,
    data_root: DataRootOption = None,
    processes: ProcessesOption = 1,
    replicas: ReplicasOption = 1,
) -> None:
    """Train a network on an image data set by one method, and write its test accuracy and cost."""
    from brainage.workflows.research import announce_benchmark

    config = settings.resolve(
        network,
        "images",
        images__dataset=dataset,
        images__train_limit=train_limit,
        learning__method=method,
        learning__cut_by=cut_by,
        learning__head=head,
        learning__worker_reads=worker_reads,
        learning__workers_per_block=workers_per_block,
        seed=seed,
    )
    running.check()
    announce_benchmark(config)

    from brainage.training.options import TrainOptions
    from brainage.workflows import benchmark as job

    options = running.words(processes=processes, replicas=replicas)
    job.benchmark(config, TrainOptions(output=output, **options), data_root)


@command(LEARNING)
def demo(output: OutputOption = Path("demo")) -> None:
    """Make phantoms, compare bp and lfnn_l on them, and predict: everything, in minutes."""
    from brainage.extras import check_extra

    check_extra("typst", "report")
    from brainage.workflows import demo as job

    job.demo(output)


@command(LEARNING)
def presets() -> None:
    """List the presets and their networks."""
    from brainage.config import load_preset, preset_names
    from brainage.workflows.console import say

    for name in preset_names():
        config = load_preset(name)
        grid = "×".join(str(size) for size in config.preprocessing.shape)
        spacing = config.preprocessing.spacing_mm
        say(f"{name:14} {config.network.name:12} {grid} voxels of {spacing:g} mm")


@command(LEARNING)
def cut(
    preset: PresetOption = "cnn3d_light",
    network: NetworkOption = None,
    config: ConfigOption = None,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Number of blocks K.")] = 2,
    by: Annotated[
        Literal["time", "memory", "parameters"],
        typer.Option("--by", help="What the blocks share out evenly."),
    ] = "time",
    batch_size: SamplesOption = None,
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 1,
    set_: SetOption = None,
) -> None:
    """Time a network's stages, cut it into K blocks, and print the bound that follows."""
    from brainage.workflows.settings import resolve_config

    family = "images" if network else "brain_age"
    settings = resolve_config(network or preset, config, {}, set_ or [], family)

    from brainage.workflows import profiling

    options = profiling.ProfileOptions(batch_size, repeats, threads)
    profiling.show_cut(settings, blocks, by, options)


@command(LEARNING)
def simulate(
    output: OutputOption = Path("simulation"),
    network: NetworkOption = "vit_b16",
    preset: Annotated[
        str | None, typer.Option("--preset", help="Settings in configs/brain_age instead.")
    ] = None,
    config: ConfigOption = None,
    blocks: Annotated[
        str, typer.Option("--blocks", help="Numbers of blocks K, by commas.")
    ] = "4,8,12,16",
    devices: Annotated[
        str, typer.Option("--devices", help="Numbers of devices G, by commas.")
    ] = "4",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Batches of an epoch.")] = 100,
    batch_size: SamplesOption = 8,
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 1,
    validate: Annotated[
        bool, typer.Option("--validate", help="Also run it: G processes of this machine.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """Predict an epoch on G devices from measured blocks: LFNN-ℓ, 1F1B and data parallel."""
    from brainage.workflows.inputs import parse_counts
    from brainage.workflows.research import find_programs
    from brainage.workflows.settings import resolve_config

    family: Literal["brain_age", "images"] = "brain_age" if preset else "images"
    settings = resolve_config(preset or network or "", config, {}, set_ or [], family)
    counts, device_counts = parse_counts("--blocks", blocks), parse_counts("--devices", devices)
    if validate:
        find_programs()

    from brainage.workflows import profiling

    options = profiling.ProfileOptions(batch_size, repeats, threads)
    if validate:
        from brainage.workflows.research import load_program

        validation = load_program("pipelines.speed.validation")
        validation.validate(settings, device_counts[0], output, options)
        return
    profiling.simulate(settings, counts, device_counts, steps, output, options)
