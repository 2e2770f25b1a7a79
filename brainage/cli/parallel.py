"""`brainage cut` and `brainage simulate`. Light: heavy imports inside the commands."""

from pathlib import Path
from typing import Annotated

import typer

from brainage.cli.options import ConfigOption, DebugOption, OutputOption, SetOption

NetworkOption = Annotated[
    str | None, typer.Option("--network", help="Settings in configs/images: vit_b16, resnet32, …")
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=2, help="Samples a batch.")]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Timed passes; the median.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Torch threads.")]


def cut(
    preset: Annotated[
        str, typer.Option("--preset", help="Settings in configs/brain_age.")
    ] = "cnn3d_light",
    network: NetworkOption = None,
    config: ConfigOption = None,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Number of blocks K.")] = 2,
    by: Annotated[str, typer.Option("--by", help="Share out time, memory or parameters.")] = "time",
    batch_size: BatchOption = None,
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 1,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Time a network's stages, cut it into K blocks, and print the bound that follows."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.errors import ConfigError
        from brainage.workflows import profiling
        from brainage.workflows.settings import resolve_config

        if by not in ("time", "memory", "parameters"):
            raise ConfigError("--by", f"unknown measure {by!r}.", "Use time, memory or parameters.")
        family = "images" if network else "brain_age"
        settings = resolve_config(network or preset, config, {}, set_ or [], family)
        options = profiling.ProfileOptions(batch_size, repeats, threads)
        profiling.show_cut(settings, blocks, by, options)


def simulate(
    output: OutputOption = Path("simulation"),
    network: Annotated[
        str, typer.Option("--network", help="Settings in configs/images: vit_b16, resnet32, …")
    ] = "vit_b16",
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
    batch_size: BatchOption = 8,
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 1,
    validate: Annotated[
        bool, typer.Option("--validate", help="Also run it: G processes of this machine.")
    ] = False,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Predict an epoch on G devices from measured blocks: LFNN-ℓ, 1F1B and data parallel."""
    from brainage.workflows.console import clear_errors

    with clear_errors(debug):
        from brainage.workflows import profiling
        from brainage.workflows.settings import resolve_config

        family = "brain_age" if preset else "images"
        settings = resolve_config(preset or network, config, {}, set_ or [], family)
        options = profiling.ProfileOptions(batch_size, repeats, threads)
        device_counts = _numbers("--devices", devices)
        if validate:
            from brainage.workflows.research import load_program

            validation = load_program("pipelines.speed.validation")
            validation.validate(settings, device_counts[0], output, options)
            return
        counts = _numbers("--blocks", blocks)
        profiling.simulate(settings, counts, device_counts, steps, output, options)


def _numbers(where: str, text: str) -> list[int]:
    from brainage.errors import ConfigError

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(where, f"{text!r} is no list of numbers.", "Give 4,8,12.")
    return numbers
