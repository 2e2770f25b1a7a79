"""LocalBlock and BlockStack; cutting a network's stages into K blocks of balanced cost."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from brainage.errors import ConfigError, first_line


@dataclass(frozen=True)
class BlockPlace:
    """What is known of a block when its head and auxiliary are built.

    Attributes
    ----------
    feature_shape, input_shape : tuple of int
        Shapes of the block's output and input without the batch.
    block_index, blocks : int
        Which block, and how many there are.
    later_stages : tuple of torch.nn.Module
        The network behind the block; to be copied, never trained from here.
    """

    feature_shape: tuple[int, ...]
    input_shape: tuple[int, ...] = ()
    block_index: int = 0
    blocks: int = 2
    later_stages: tuple[nn.Module, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the block's head is the network's output."""
        return self.block_index == self.blocks - 1


BuildParts = Callable[[BlockPlace], tuple[nn.Module | None, nn.Module | None]]
"""From a block's place to its head and auxiliary."""

CutBy = Literal["time", "memory", "parameters"]

FORWARD_ERRORS = AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError
"""What a module raises that cannot work on its input."""

FORMER_NAME = "aid"
"""What auxiliary modules are called in the weights and seeds of version 0.1."""


class LocalBlock(nn.Module):
    """A piece of the network and the head that trains it; a block of plain BP has no head.

    Parameters
    ----------
    body : torch.nn.Sequential
        Stages of the network.
    head : torch.nn.Module, optional
        From the body's features to worker outputs (B, W, C).
    auxiliary : torch.nn.Module, optional
        What the method adds here beside the head: see `brainage.lfnn.step.Rule`.
    """

    def __init__(
        self, body: nn.Sequential, head: nn.Module | None, auxiliary: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.body, self.head, self.auxiliary = body, head, auxiliary
        self.register_load_state_dict_pre_hook(_read_former_name)


def _read_former_name(block: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    former = f"{prefix}{FORMER_NAME}."
    for name in [name for name in state if name.startswith(former)]:
        state[f"{prefix}auxiliary.{name.removeprefix(former)}"] = state.pop(name)


class BlockStack(nn.Module):
    """A network cut into K blocks. The head of the last block is the network's output.

    Parameters
    ----------
    blocks : sequence of LocalBlock
        In order; the last one has a head with one worker.
    """

    def __init__(self, blocks: Sequence[LocalBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, block_index: int) -> LocalBlock:
        block = self.blocks[block_index]
        assert isinstance(block, LocalBlock)
        return block

    def forward(self, inputs: Tensor) -> Tensor:
        """Network output (B, C): every worker feeds the next block, no label is needed."""
        features = inputs
        for block_index in range(len(self)):
            features = self[block_index].body(features)
        return self.read_out(len(self) - 1, features).squeeze(1)

    def read_out(self, block_index: int, features: Tensor) -> Tensor:
        """Worker outputs (B, W, C) of one block's head from that block's features."""
        head = self[block_index].head
        assert head is not None
        outputs: Tensor = head(features)
        return outputs

    def block_outputs(self, inputs: Tensor) -> list[Tensor | None]:
        """Worker outputs (B, W, C) of every block; None where a block has no head."""
        outputs, features = [], inputs
        for block_index in range(len(self)):
            features = self[block_index].body(features)
            has_head = self[block_index].head is not None
            outputs.append(self.read_out(block_index, features) if has_head else None)
        return outputs

    def to_plain(self) -> "BlockStack":
        """Return the network as BP has it: no hidden heads, the same weights (not copied)."""
        last = len(self) - 1
        return BlockStack(
            [
                LocalBlock(self[index].body, self[index].head if index == last else None)
                for index in range(len(self))
            ]
        )


def build_stack(
    stages: Mapping[str, nn.Module],
    starts: Sequence[str],
    sample: Tensor,
    build_parts: BuildParts,
) -> BlockStack:
    """Join stages into blocks and give each the head and the auxiliary of `build_parts`.

    Parameters
    ----------
    stages : mapping of str to torch.nn.Module
        The network, in order.
    starts : sequence of str
        Names of the stages that begin a block; the first stage is always one.
    sample : torch.Tensor (1, ...)
        An input of the network.

    Raises
    ------
    ConfigError
        If a block gives no (B, ...) with an axis beside the batch.
    """
    groups = group_stages(stages, starts)
    blocks: list[LocalBlock] = []
    for block_index, group in enumerate(groups):
        body = nn.Sequential(*(stages[name] for name in group))
        given, sample = tuple(sample.shape[1:]), pass_sample(body, sample)
        _check_features(sample, group[-1])
        later = tuple(stages[name] for behind in groups[block_index + 1 :] for name in behind)
        place = BlockPlace(tuple(sample.shape[1:]), given, block_index, len(groups), later)
        parts = build_parts(place)
        for part in filter(None, parts):
            _fit(part, sample, group[-1])
        blocks.append(LocalBlock(body, *parts))
    return BlockStack(blocks)


def _fit(part: nn.Module, features: Tensor, stage: str) -> None:
    """Bring what is added to a block to the device and type of its features."""
    if not features.is_floating_point():
        problem = f"gives {features.dtype}, which no head can read."
        raise ConfigError(f"stage {stage}", problem, "Let a block end where numbers are real.")
    part.to(features.device)
    if features.dtype != torch.get_default_dtype() and next(part.parameters(), None) is not None:
        part.to(features.dtype)


def _check_features(features: Tensor, stage: str) -> None:
    if features.ndim < 2 or len(features) != 1:
        problem = f"gives {tuple(features.shape)} for one sample: expected (1, C) or (1, C, ...)."
        raise ConfigError(f"stage {stage}", problem, "Keep the batch and one more axis.")


def group_stages(stages: Mapping[str, nn.Module], starts: Sequence[str]) -> list[list[str]]:
    """Group the names of stages by block; each name in `starts` begins one."""
    groups: list[list[str]] = []
    for name in stages:
        if not groups or name in starts:
            groups.append([])
        groups[-1].append(name)
    return groups


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in evaluation mode without gradients; every part gets its mode back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def pass_sample(body: nn.Module, sample: Tensor) -> Tensor:
    """Compute features of a sample (1, ...) in evaluation mode; the state of `body` stays.

    Raises
    ------
    ConfigError
        If the network cannot work on it.
    """
    try:
        with evaluating(body):
            features: Tensor = body(sample)
    except FORWARD_ERRORS as error:
        what = f"shape {tuple(sample.shape[1:])} and type {sample.dtype}"
        raise ConfigError(
            "network.name",
            f"a stage cannot work on {what}: {first_line(error)}.",
            "Use other channels or another type; where it is too small, a larger shape.",
        ) from error
    return features


def measure_shape(body: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one sample after `body`, from the shape before it; see `pass_sample`."""
    return tuple(pass_sample(body, torch.zeros(1, *input_shape)).shape[1:])


def split(
    stages: Mapping[str, nn.Module], sample: Tensor, *, blocks: int, cut_by: CutBy = "time"
) -> list[str]:
    """Cut a network into K blocks whose largest cost is as small as possible.

    Parameters
    ----------
    stages : mapping of str to torch.nn.Module
        The network, in order; a stage is never cut.
    sample : torch.Tensor (1, ...)
        An input of the network.
    blocks : int
        K, from 1 to the number of stages.
    cut_by : {"time", "memory", "parameters"}
        What is shared out evenly; see `measure_costs`.

    Returns
    -------
    list of str
        Names of the stages that start a block, for `build_stack`.

    Raises
    ------
    ConfigError
        If there are more blocks than stages.
    """
    return choose_starts(measure_costs(stages, sample)[cut_by], blocks)


def measure_costs(stages: Mapping[str, nn.Module], sample: Tensor) -> dict[CutBy, dict[str, int]]:
    """Count what each stage costs on one sample (1, ...): the same on every machine.

    Returns
    -------
    dict
        ``time``: floating-point operations of the forward pass; ``memory``: elements that the
        stage's layers give out, which backpropagation keeps; ``parameters``. Each from stage name
        to count.
    """
    costs: dict[CutBy, dict[str, int]] = {"time": {}, "memory": {}, "parameters": {}}
    for name, stage in stages.items():
        with FlopCounterMode(display=False) as counter, _counted(stage) as kept:
            sample = pass_sample(stage, sample)
        costs["time"][name] = max(1, int(counter.get_total_flops()))
        costs["memory"][name] = max(1, sum(kept))
        costs["parameters"][name] = sum(p.numel() for p in stage.parameters())
    return costs


@contextmanager
def _counted(stage: nn.Module) -> Iterator[list[int]]:
    """Collect the sizes of what the leaf modules give out."""
    sizes: list[int] = []

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    leaves = [module for module in stage.modules() if not list(module.children())]
    scripted = torch.jit.ScriptModule  # takes no hooks
    handles = [
        part.register_forward_hook(count) for part in leaves if not isinstance(part, scripted)
    ]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def block_shares(
    stages: Mapping[str, nn.Module], starts: Sequence[str], sample: Tensor
) -> list[dict[str, str | float]]:
    """Compute each block's share of the network's time, memory and parameters.

    Returns
    -------
    list of dict
        One row a block: ``block`` (from 0), ``stages`` ("first … last"), ``time``, ``memory``,
        ``parameters`` (shares that add up to 1).
    """
    costs = measure_costs(stages, sample)
    rows: list[dict[str, str | float]] = []
    for block_index, group in enumerate(group_stages(stages, starts)):
        names = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
        row: dict[str, str | float] = {"block": block_index, "stages": names}
        for measure, values in costs.items():
            total = max(1, sum(values.values()))
            row[measure] = sum(values[name] for name in group) / total
        rows.append(row)
    return rows


def choose_starts(costs: Mapping[str, int], blocks: int) -> list[str]:
    """Choose K contiguous blocks whose largest cost is as small as possible: their first stages.

    Ties prefer the earlier cut.

    Raises
    ------
    ConfigError
        If there are more blocks than stages.
    """
    names, prefix = list(costs), [0]
    for value in costs.values():
        prefix.append(prefix[-1] + value)
    first = cut_evenly(len(names), blocks, lambda m, n: prefix[n] - prefix[m])
    return [names[m] for m in first]


def cut_evenly(stages: int, blocks: int, cost: Callable[[int, int], float]) -> list[int]:
    """Choose K contiguous blocks whose largest cost is as small as possible: their first stages.

    Parameters
    ----------
    cost : callable
        Of the block that is made of stages m to n - 1. It need not be a sum over stages: a block
        pays for one head, and not for the gradient of its own input.

    Raises
    ------
    ConfigError
        If there are more blocks than stages.
    """
    if blocks > stages:
        raise ConfigError(
            "learning.blocks",
            f"{blocks} blocks do not fit a network of {stages} stages.",
            f"Use 1 to {stages}.",
        )
    # best[k][n]: smallest possible largest cost when the first n stages form k blocks
    best: list[list[float]] = [[float("inf")] * (stages + 1) for _ in range(blocks + 1)]
    origin = [[0] * (stages + 1) for _ in range(blocks + 1)]
    best[0][0] = 0.0
    for k in range(1, blocks + 1):
        for n in range(k, stages + 1):
            for m in range(k - 1, n):
                largest = max(best[k - 1][m], cost(m, n))
                if largest < best[k][n]:
                    best[k][n], origin[k][n] = largest, m
    starts, n = [], stages
    for k in range(blocks, 0, -1):
        n = origin[k][n]
        starts.append(n)
    return starts[::-1]


def check_starts(starts: Sequence[str], stages: Mapping[str, nn.Module]) -> list[str]:
    """Refuse cuts that name no stage; the first stage is added where it is missing.

    Raises
    ------
    ConfigError
        If a name is not a stage of the network.
    """
    for name in starts:
        if name not in stages:
            raise ConfigError(
                "learning.cuts", f"no stage is called {name!r}.", f"Stages: {', '.join(stages)}."
            )
    first = next(iter(stages))
    return [first, *[name for name in stages if name in starts and name != first]]
