"""What each stage of a network takes on this machine, and the cut and the bound that follow."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from brainage.lfnn.blocks import BlockStack, cut_evenly
from brainage.lfnn.targets import Target, at_least_float32

Result = TypeVar("Result")


@dataclass(frozen=True)
class StageTimes:
    """Seconds of one stage on one batch.

    Attributes
    ----------
    name : str
        Of the stage.
    forward_s, backward_s : float
        Forward pass; backward pass as far as the stage's own weights need it.
    input_gradient_s : float
        What the gradient of the stage's input takes on top: a block's first stage is spared it.
    head_s : float
        Forward, loss and backward of a head behind the stage.
    update_s : float
        AdamW on the stage's weights.
    output_elements : int
        Numbers that the stage hands on for the batch.
    parameters : int
        Weights of the stage.
    """

    name: str
    forward_s: float
    backward_s: float
    input_gradient_s: float
    head_s: float
    update_s: float
    output_elements: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class BlockTimes:
    """Seconds of one block on one batch.

    Attributes
    ----------
    stages : tuple of str
        Names.
    forward_s : float
        Until the features can be handed on.
    rest_s : float
        Head, backward and update.
    backward_input_s : float
        What backpropagation through the block would take on top of `rest_s` without its head.
    head_s : float
        Part of `rest_s` that is the head's.
    output_elements, parameters : int
        Of the last stage, and of all of them.
    """

    stages: tuple[str, ...]
    forward_s: float
    rest_s: float
    backward_input_s: float
    head_s: float
    output_elements: int
    parameters: int

    @property
    def local_s(self) -> float:
        """One step of local learning."""
        return self.forward_s + self.rest_s


def profile_stages(
    stack: BlockStack,
    inputs: Tensor,
    target_values: Tensor,
    target: Target,
    repeats: int = 5,
) -> list[StageTimes]:
    """Measure a stack that has one stage a block, each with a head; the first pass is a warm-up.

    Parameters
    ----------
    inputs : torch.Tensor (B, C, ...)
    target_values : torch.Tensor (B,)
    repeats : int
        Timed passes; medians are returned.
    """
    stack.train()
    stages, features = [], inputs
    for block_index in range(len(stack)):
        times = [
            _time_stage(stack, block_index, features, target_values, target)
            for _ in range(repeats + 1)
        ][1:]
        with torch.no_grad():
            features = stack[block_index].body(features)
        medians = [median(row) for row in zip(*times, strict=True)]
        forward, backward, with_input, head, update = medians
        parameters = sum(p.numel() for p in stack[block_index].body.parameters())
        is_first = block_index == 0
        input_gradient = 0.0 if is_first else max(0.0, with_input - backward)
        stages.append(
            StageTimes(
                str(block_index),
                forward,
                backward,
                input_gradient,
                head,
                update,
                features.numel(),
                parameters,
            )
        )
    return stages


def _time_stage(
    stack: BlockStack, block_index: int, features: Tensor, target_values: Tensor, target: Target
) -> tuple[float, ...]:
    block = stack[block_index]
    given, forward = timed(lambda: block.body(features.detach()))
    gradient = torch.randn_like(given)
    backward = timed(lambda: given.backward(gradient))[1] if given.requires_grad else 0.0
    again = block.body(features.detach().requires_grad_())
    with_input = timed(lambda: again.backward(gradient))[1]
    leaf = given.detach().requires_grad_()

    def learn() -> None:
        outputs = at_least_float32(stack.read_out(block_index, leaf))
        target.loss(outputs, target_values).mean().backward()

    head = timed(learn)[1]
    weights = list(block.body.parameters())
    update = 0.0
    if weights:
        optimizer = torch.optim.AdamW(weights, lr=1e-12, fused=True)
        optimizer.step()  # makes its state
        update = timed(optimizer.step)[1]
    stack.zero_grad(set_to_none=True)
    return forward, backward, with_input, head, update


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of a piece of work and its seconds, the device's included."""
    _synchronise()
    start = time.perf_counter()
    result = work()
    _synchronise()
    return result, time.perf_counter() - start


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def join_stages(stages: Sequence[StageTimes], first: int, end: int) -> BlockTimes:
    """Add up the times of a block that is made of stages `first` to `end` - 1."""
    part = stages[first:end]
    inner = sum(stage.input_gradient_s for stage in part[1:])
    backward = sum(stage.backward_s + stage.update_s for stage in part)
    return BlockTimes(
        stages=tuple(stage.name for stage in part),
        forward_s=sum(stage.forward_s for stage in part),
        rest_s=backward + inner + part[-1].head_s,
        backward_input_s=part[0].input_gradient_s,
        head_s=part[-1].head_s,
        output_elements=part[-1].output_elements,
        parameters=sum(stage.parameters for stage in part),
    )


def cut_by_time(stages: Sequence[StageTimes], blocks: int) -> list[BlockTimes]:
    """Cut measured stages into K blocks, so that the slowest block is as fast as possible.

    Raises
    ------
    ConfigError
        If there are more blocks than stages.
    """

    def cost(first: int, end: int) -> float:
        return join_stages(stages, first, end).local_s

    starts = cut_evenly(len(stages), blocks, cost)
    ends = [*starts[1:], len(stages)]
    return [join_stages(stages, first, end) for first, end in zip(starts, ends, strict=True)]


def cut_like(blocks: Sequence[BlockTimes], stages: Sequence[StageTimes]) -> list[BlockTimes]:
    """Other times of the same stages, in the same blocks."""
    ends = list(accumulate(len(block.stages) for block in blocks))
    return [join_stages(stages, a, b) for a, b in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class Bound:
    """What K devices can give at most, against backpropagation on one.

    Attributes
    ----------
    heads : float
        h: hidden heads as a share of a step of backpropagation.
    spared : float
        δ_in: input gradients at the cuts, which are not needed, as a share of such a step.
    imbalance : float
        β: slowest block over mean block.
    speedup : float
        K / ((1 + h − δ_in)·β) = step of backpropagation / slowest block.
    """

    heads: float
    spared: float
    imbalance: float
    speedup: float


def bound_of(blocks: Sequence[BlockTimes]) -> Bound:
    """Compute the bound of a cut."""
    bp_s = backpropagation_s(blocks)
    local = [block.local_s for block in blocks]
    imbalance = max(local) * len(local) / sum(local)
    return Bound(
        heads=sum(block.head_s for block in blocks[:-1]) / bp_s,
        spared=sum(block.backward_input_s for block in blocks[1:]) / bp_s,
        imbalance=imbalance,
        speedup=len(local) / (sum(local) / bp_s * imbalance),
    )


def backpropagation_s(blocks: Sequence[BlockTimes]) -> float:
    """One step of backpropagation through all blocks, with the output's head alone."""
    inner = sum(block.local_s - block.head_s + block.backward_input_s for block in blocks)
    return inner + blocks[-1].head_s
