"""`brainage cut` and `brainage simulate`: measured stages, cuts, bounds and projections."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist

from brainage.config import Config, with_changes
from brainage.images.sets import resolve_images
from brainage.lfnn.parallel.profile import (
    BlockTimes,
    Bound,
    StageTimes,
    backpropagation_s,
    bound_of,
    cut_by_time,
    join_stages,
    profile_stages,
    timed,
)
from brainage.lfnn.parallel.simulate import (
    BYTES,
    Link,
    project,
)
from brainage.lfnn.rules import METHOD_RULES
from brainage.model.build import (
    build_model,
    build_target,
    cut_names,
    describe_cut,
    resolve_target,
    stage_names,
)
from brainage.plotting.projection import plot_projection
from brainage.training.processes import join_ranks, run_ranks
from brainage.training.resources import keep_freed_memory
from brainage.workflows.console import say
from brainage.workflows.results import write_json, write_table

SEED_VIT_SPEEDUPS = {4: 2.31, 8: 4.62, 12: 7.04, 16: 10.52}
"""Table S4 of the leader-follower paper: ViT-B/16 on "4 GPUs", over backpropagation."""
ATTENTION_SHARE = 1 / 3
"""Of an encoder layer's multiply-adds: 4·d² of 12·d² a token, without the attention map's."""


@dataclass(frozen=True)
class ProfileOptions:
    """What is profiled, and how.

    Attributes
    ----------
    processes : int
        How many measure at once: devices that share a machine slow each other.
    """

    batch_size: int | None = None
    repeats: int = 5
    threads: int = 1
    processes: int = 1


def measure_stages(config: Config, options: ProfileOptions) -> list[StageTimes]:
    """Time every stage of the configured network, with the configured heads, on random inputs.

    Of several processes that measure at once, means are returned.
    """
    if options.processes > 1:
        return _measure_at_once(config, options)
    config = resolve_images(config) if config.images else resolve_target(config, (20.0, 80.0))
    local = METHOD_RULES[config.learning.method].hidden_loss is not None
    names = stage_names(config)
    changes: dict[str, Any] = {"learning.cuts": names}
    config = with_changes(config, changes | ({} if local else {"learning.method": "lfnn_l"}))
    torch.set_num_threads(options.threads)
    keep_freed_memory(torch.device("cpu"))  # as every training does
    size = options.batch_size or config.training.batch_size
    inputs = torch.randn(size, *config.input_shape)
    is_class = config.target.kind == "classes"
    target = torch.arange(size) % 2 if is_class else 20.0 + 60.0 * torch.rand(size)
    measured = profile_stages(
        build_model(config), inputs, target, build_target(config.target), options.repeats
    )
    return [replace(stage, name=name) for stage, name in zip(measured, names, strict=True)]


def _measure_at_once(config: Config, options: ProfileOptions) -> list[StageTimes]:
    told = _ask_ranks(_measure_rank, options.processes, config, options)
    seconds = [field.name for field in fields(StageTimes) if field.name.endswith("_s")]
    return [
        replace(ranks[0], **{name: mean(getattr(rank, name) for rank in ranks) for name in seconds})
        for ranks in zip(*(stages for (stages,) in told), strict=True)
    ]


def _measure_rank(
    rank: int, send: Any, rendezvous: str, config: Config, options: ProfileOptions
) -> None:
    join_ranks(rank, options.processes, rendezvous, options.threads, "cpu")
    dist.barrier()
    send("stages", measure_stages(config, replace(options, processes=1)))
    dist.barrier()
    dist.destroy_process_group()


def measure_in_parts(
    config: Config, options: ProfileOptions, parts: int, updates: int = 1
) -> list[StageTimes]:
    """Stages on a batch that comes in parts, which are slower than the whole: all parts together.

    Parameters
    ----------
    updates : int
        How often the weights are updated: once, or once for each part.
    """
    size = (options.batch_size or config.training.batch_size) // parts
    return [
        replace(
            stage,
            forward_s=parts * stage.forward_s,
            backward_s=parts * stage.backward_s,
            input_gradient_s=parts * stage.input_gradient_s,
            head_s=parts * stage.head_s,
            update_s=updates * stage.update_s,
            output_elements=parts * stage.output_elements,
        )
        for stage in measure_stages(config, replace(options, batch_size=size))
    ]


def show_cut(config: Config, blocks: int, by: str, options: ProfileOptions) -> list[BlockTimes]:
    """Print each block's share, and the bound that follows; times are measured here and now.

    Raises
    ------
    ConfigError
        If there are more blocks than stages.
    """
    config = resolve_images(config) if config.images else config
    stages = measure_stages(config, options)
    names = [stage.name for stage in stages]
    if by == "time":
        parts = cut_by_time(stages, blocks)
    else:
        counted = with_changes(config, {"learning.blocks": blocks, "learning.cut_by": by})
        starts = [names.index(name) for name in cut_names(counted)]
        ends = [*starts[1:], len(names)]
        parts = [join_stages(stages, a, b) for a, b in zip(starts, ends, strict=True)]
    say(describe(parts, bound_of(parts), config, options))
    return parts


def describe(parts: list[BlockTimes], bound: Bound, config: Config, options: ProfileOptions) -> str:
    """Return the cut as a table, the bound as a line, and the setting that keeps the cut."""
    total = sum(part.local_s for part in parts)
    cuts = [part.stages[0] for part in parts]
    shares = describe_cut(with_changes(config, {"learning.cuts": cuts}))
    lines = [
        f"{options.threads} thread(s), batch {options.batch_size or config.training.batch_size}",
        "block    seconds   time  memory  parameters  stages",
    ]
    for number, (part, row) in enumerate(zip(parts, shares, strict=True)):
        memory, parameters = (f"{float(row[key]):.0%}" for key in ("memory", "parameters"))
        lines.append(
            f"{number:>5}  {part.local_s:9.4f}  {part.local_s / total:>5.0%}  {memory:>6}  "
            f"{parameters:>10}  {row['stages']}"
        )
    lines.append(
        f"backpropagation {backpropagation_s(parts):.4f} s a step; heads h {bound.heads:.1%}, "
        f"spared input gradients {bound.spared:.1%}, imbalance {bound.imbalance:.2f}"
    )
    lines.append(
        f"bound on {len(parts)} devices: {len(parts)} / ((1 + {bound.heads:.3f} - "
        f"{bound.spared:.3f}) * {bound.imbalance:.3f}) = {bound.speedup:.2f} times backpropagation"
    )
    lines.append(f"keep it with --set 'learning.cuts=[{', '.join(cuts)}]'")
    return "\n".join(lines)


def simulate(
    config: Config,
    counts: list[int],
    devices: list[int],
    steps: int,
    output: Path,
    options: ProfileOptions,
    link: Link | None = None,
) -> pd.DataFrame:
    """Predict an epoch for every K and G, and write projection.csv, stages.csv and the picture."""
    link = link or measure_link(options.threads)
    stages = measure_stages(config, options)
    rows = []
    for count in counts:
        halved = count > len(stages)
        parts = cut_by_time(halve(stages) if halved else stages, count)
        for device_count in devices:
            rows.append(project(parts, device_count, steps, link) | {"halved_layers": halved})
        if count not in devices:
            rows.append(project(parts, count, steps, link) | {"halved_layers": halved})
    table = pd.DataFrame(rows)
    network = config.network.name
    table.insert(0, "network", network)
    write_table(table, output / "projection.csv")
    write_table(pd.DataFrame([vars(stage) for stage in stages]), output / "stages.csv")
    write_json(asdict(link) | {"threads": options.threads, "steps": steps}, output / "link.json")
    seed = SEED_VIT_SPEEDUPS if network == "vit" else {}
    title = f"{network}: projected from times of blocks on one CPU, batch {options.batch_size}"
    plot_projection(table, output / "projection.png", title, seed)
    say(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    say(f"projected from measured blocks, not measured; written to {output}")
    return table


def halve(stages: list[StageTimes]) -> list[StageTimes]:
    """Cut encoder layers between attention and perceptron, by their share of multiply-adds.

    Sixteen blocks do not fit twelve layers and an embedding; these halves are not trained
    anywhere, they only let the projection go as far as the paper's table does.
    """
    halves = []
    for stage in stages:
        if not stage.name.startswith("layer"):
            halves.append(stage)
            continue
        for name, share in (("attention", ATTENTION_SHARE), ("mlp", 1 - ATTENTION_SHARE)):
            halves.append(
                replace(
                    stage,
                    name=f"{stage.name}.{name}",
                    forward_s=stage.forward_s * share,
                    backward_s=stage.backward_s * share,
                    input_gradient_s=stage.input_gradient_s * share,
                    update_s=stage.update_s * share,
                    parameters=int(stage.parameters * share),
                )
            )
    return halves


def measure_link(threads: int = 1) -> Link:
    """Latency and bandwidths between two processes of this machine over gloo."""
    ((latency_s, large_s, summed_s),) = _ask_ranks(_bounce, 2, threads)
    size = _LARGE * BYTES
    return Link(latency_s, size / max(1e-9, large_s - latency_s), size / summed_s)


_LARGE, _TIMES = 2**22, 20


def _ask_ranks(
    program: Callable[..., None], processes: int, *arguments: Any
) -> list[tuple[Any, ...]]:
    """Return what the processes of `program` send, in any order."""
    told: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"file://{Path(folder) / 'rendezvous'}", *arguments)
        run_ranks(program, arguments, processes, lambda _, said: told.append(said))
    return told


def _bounce(rank: int, send: Any, rendezvous: str, threads: int) -> None:
    join_ranks(rank, 2, rendezvous, threads, "cpu")

    def there_and_back(tensor: torch.Tensor) -> None:
        for turn in (0, 1):
            (dist.send if rank == turn else dist.recv)(tensor, 1 - rank)

    def typical_s(talk: Callable[[torch.Tensor], object], elements: int) -> float:
        tensor = torch.zeros(elements)
        talk(tensor)
        return median(timed(lambda: talk(tensor))[1] for _ in range(_TIMES))

    messages = [typical_s(there_and_back, elements) / 2 for elements in (1, _LARGE)]
    summed = typical_s(dist.all_reduce, _LARGE)
    if rank == 0:
        send("link", *messages, summed)
    dist.barrier()
    dist.destroy_process_group()
