"""One measured step: a brain-age network, a grid, a precision, and how it is trained."""

import copy
import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from brainage.config import Config, load_preset, with_changes
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.parallel.streams import StreamedBlocks
from brainage.model.build import build_model, resolve_target
from brainage.training.resources import peak_memory_mb, reset_peak_memory
from brainage.training.state import TrainingState
from pipelines.device.replay import capture, on_stream, open_stream, synchronise
from pipelines.device.rows import Row
from pipelines.speed.memory import allocated_mb
from pipelines.speed.runs import random_batch
from pipelines.speed.single import compile_stages

AGES = (20.0, 80.0)
GROUPS, STEPS, WARM_UP, LIMIT_S = 6, 5, 3, 4.0
"""Groups of steps that are timed, steps of a group, untimed steps, and seconds for them all."""
METHODS = {"BP": "bp", "LFNN-ℓ": "lfnn_l"}


@dataclass(frozen=True)
class Cell:
    """What one row measures.

    Attributes
    ----------
    network : str
        A preset of `configs/brain_age`.
    shape : tuple of int (3,)
        Voxels.
    precision : {"bfloat16", "float32"}
    how : str
        "BP" or "LFNN-ℓ", then nothing, "checkpointed", "compiled", "graph" or "streams".
    layout : {"contiguous", "channels_last", "no cuDNN"}
    """

    network: str
    shape: tuple[int, int, int]
    precision: str
    how: str
    layout: str = "contiguous"
    batch_size: int = 2
    narrow: bool = False

    @property
    def name(self) -> str:
        """Name for people."""
        grid = "×".join(map(str, self.shape))
        return f"{self.network} {grid} {self.precision} {self.layout}, {self.how}"

    @property
    def settings(self) -> dict[str, Any]:
        """All that the row's hash stands for."""
        return asdict(self) | {"steps": [GROUPS, STEPS, WARM_UP]}

    def config(self) -> Config:
        """Build the settings of the step."""
        preset = load_preset(self.network)
        method, _, variant = self.how.partition(" ")
        layout = "channels_last" if self.layout == "channels_last" else "contiguous"
        changes: dict[str, Any] = {
            "preprocessing.shape": self.shape,
            "training.batch_size": self.batch_size,
            "training.precision": self.precision,
            "training.memory_format": layout,
            "training.recompute": variant == "checkpointed",
            "learning.method": METHODS[method],
        }
        if self.narrow:
            changes |= {"network.arguments": NARROW[self.network], "learning.blocks": 2}
        return resolve_target(with_changes(preset, changes, self.name), AGES)


NARROW: dict[str, dict[str, Any]] = {
    "resnet3d": {"channels": [2, 4], "units": [1, 1], "stem_stride": 2},
    "sfcn": {"channels": [2, 4, 4]},
    "usc_cnn3d": {"channels": [2, 4], "kernel_size": 3},
    "vit3d": {"patch_size": 8, "hidden_size": 12, "layers": 2, "heads": 2},
}


def measure(cell: Cell, device: torch.device) -> Row:
    """Time steps of one cell and read its peak memory; milliseconds and megabytes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    base = allocated_mb(device)
    reset_peak_memory(device)
    with _cudnn(cell.layout != "no cuDNN"):
        step, wait, is_graph = build_step(cell, device)
        times = time_steps(step, wait, device)
    if "compiled" in cell.how:
        torch.compiler.reset()
    values = torch.tensor(times, dtype=torch.float64) * 1000
    quartiles = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    low, middle, high = (float(value) for value in quartiles)
    return {
        "step_ms": middle,
        "step_ms_q1": low,
        "step_ms_q3": high,
        "groups": len(times),
        "peak_memory_mb": peak_memory_mb(device) - base,
        "cuda_graph": is_graph,
    }


def _cudnn(enabled: bool) -> AbstractContextManager[object]:
    if enabled:
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=False)


@lru_cache(maxsize=16)
def _network(network: str, shape: tuple[int, int, int], method: str, config: str) -> BlockStack:
    """Build a network on the CPU once: its cut is found by running it."""
    return build_model(Config.model_validate_json(config))


def build_step(
    cell: Cell, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object], bool]:
    """Build a cell's step, how to wait for it, and whether it is a graph."""
    config, variant = cell.config(), cell.how.partition(" ")[2]
    built = _network(cell.network, cell.shape, config.learning.method, _same_cut(config))
    state = TrainingState(
        copy.deepcopy(built), config, names=(), shuffle=torch.Generator(), device=device
    )
    state.model.train()
    batch = random_batch(config, 0)
    inputs, target = state.arrange(batch["inputs"]), batch["target"].to(device)
    if variant == "compiled":
        compile_stages(state.model)
    if variant == "streams" and device.type == "cuda":
        return *_streamed(state, inputs, target), False

    def step() -> None:
        learn(state, inputs, target)

    def wait() -> None:
        synchronise(device)

    if variant != "graph":
        return step, wait, False
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["capturable"] = device.type == "cuda"
    stream = open_stream(device)
    replay = capture(step, list, stream, cell.name)

    def replayed() -> None:
        with on_stream(stream):
            replay.run()

    return replayed, wait, replay.is_graph


def _same_cut(config: Config) -> str:
    """Write the settings without those that `build_model` does not look at."""
    training = config.training.model_copy(
        update={"precision": "auto", "memory_format": "contiguous", "recompute": False}
    )
    return config.model_copy(update={"training": training}).model_dump_json()


def learn(state: TrainingState, inputs: Tensor, target: Tensor) -> None:
    """Take the trainer's step without reading anything back: gradients, clipping, update."""
    for optimizer in state.optimizers:
        optimizer.zero_grad()
    state.rule.step(state.model, inputs, target, state.settings)
    bound = state.training.max_gradient_norm
    for block, optimizer in zip(state.model.blocks, state.optimizers, strict=True):
        if bound is not None:
            nn.utils.clip_grad_norm_(list(block.parameters()), bound)
        optimizer.step()


def _streamed(
    state: TrainingState, inputs: Tensor, target: Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    hidden_loss = state.rule.hidden_loss
    assert hidden_loss is not None
    bound = state.training.max_gradient_norm
    blocks = StreamedBlocks(state.model, state.optimizers, state.settings, hidden_loss, bound)
    return (lambda: blocks.step(inputs, target)), blocks.wait


def time_steps(
    step: Callable[[], object], wait: Callable[[], object], device: torch.device
) -> list[float]:
    """Seconds of a step, one value for each group of steps; by CUDA events on a GPU."""
    synchronise(device)
    for _ in range(WARM_UP):
        step()
    wait()
    # A slow step is not repeated for the sake of a number that it does not change.
    one = _time_group(step, wait, device, 1)
    count = STEPS if one * STEPS * 2 < LIMIT_S else 1
    begin, times = time.perf_counter(), list[float]()
    while len(times) < GROUPS and (len(times) < 2 or time.perf_counter() - begin < LIMIT_S):
        times.append(_time_group(step, wait, device, count) / count)
    return times


def _time_group(
    step: Callable[[], object], wait: Callable[[], object], device: torch.device, count: int
) -> float:
    synchronise(device)
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(count):
        step()
    wait()  # steps may run on other streams than this one
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1000.0
