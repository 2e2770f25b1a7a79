"""Steps without the host: captured once as a CUDA graph, replayed from then on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from brainage.errors import first_line
from brainage.workflows.console import say

WARM_UP = 3

Step = Callable[[], object]


@dataclass(frozen=True)
class Replay:
    """A step that is ready to be run often.

    Attributes
    ----------
    run : callable
        Queues one step on the stream that is current.
    is_graph : bool
        Whether a graph is replayed; else Python queues every kernel anew.
    """

    run: Step
    is_graph: bool


def open_stream(device: torch.device) -> "torch.cuda.Stream | None":
    """Make a stream of one's own; None where the device has no streams."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def on_stream(stream: "torch.cuda.Stream | None") -> AbstractContextManager[object]:
    """Queue what is done inside on a stream."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def capture(
    step: Step,
    kept: Callable[[], Sequence[Tensor]],
    stream: "torch.cuda.Stream | None",
    name: str,
) -> Replay:
    """Capture a step as a CUDA graph; where that fails or there is no GPU it runs eagerly.

    The warm-up steps that a capture wants leave nothing behind.

    Parameters
    ----------
    step : callable
        Reads and writes tensors that stay where they are; asks for no value.
    kept : callable
        All tensors that the step changes, as they are now: state that the first step makes
        (momenta) is set to zero afterwards, the rest to what it was.
    stream : torch.cuda.Stream, optional
        Where it is captured and will run. One of its own for each graph, since graphs that run at
        once must not share the work space of a stream.
    """
    if stream is None:
        return Replay(step, False)
    before = [(tensor, tensor.clone()) for tensor in kept()]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            step()
        replay = Replay(graph.replay, True)
    except RuntimeError as error:
        torch.cuda.synchronize()
        say(f"{name}: no CUDA graph, runs eagerly ({first_line(error)})")
        replay = Replay(step, False)
    restore(kept(), before)
    torch.cuda.synchronize()
    return replay


@torch.no_grad()
def restore(now: Sequence[Tensor], before: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Give tensors their former values, and zeros to those that were not there."""
    former = {id(tensor): values for tensor, values in before}
    for tensor in now:
        if id(tensor) in former:
            tensor.copy_(former[id(tensor)])
        else:
            tensor.zero_()


def optimizer_state(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    """Tensors that optimizers keep between steps."""
    return [
        value
        for optimizer in optimizers
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, Tensor)
    ]
