"""The proof that a method is block-local: a walk through the autograd graph of every loss."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brainage.errors import ConfigError, IsolationError
from brainage.lfnn.blocks import BlockStack, LocalBlock, evaluating

if TYPE_CHECKING:
    from brainage.lfnn.local_network import LocalNetwork


def assert_isolated(net: "LocalNetwork", inputs: Tensor, target_values: Tensor) -> None:
    """Check that the loss of no block reaches a weight of another block.

    Runs one training step and walks the autograd graph of every tensor that ``backward`` is
    called on. Weights, gradients, batch statistics and random numbers stay as they were.

    Parameters
    ----------
    net : LocalNetwork
        See `localize`.
    inputs : torch.Tensor (B, ...)
        A training batch.
    target_values : torch.Tensor (B,)
        Its classes or ages in years.

    Raises
    ------
    IsolationError
        Naming the block of the loss and the weight of another block that it reaches.

    Examples
    --------
    >>> import torch
    >>> from brainage import lfnn
    >>> layers = [torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)]
    >>> x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    >>> settings = dict(blocks=2, target=lfnn.Classes(3), example=x)
    >>> lfnn.assert_isolated(lfnn.localize(layers, **settings), x, y)
    >>> leaking = lfnn.localize(layers, method="bp", **settings)
    >>> lfnn.assert_isolated(leaking, x, y)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    brainage.errors.IsolationError: loss of block 1: reaches blocks.0.body.0.0.weight of ...
    """
    turns = len(net.stack) if net.rule.trains_in_turn else 1
    for turn in range(turns):
        with _untouched(net.stack):
            net.stack.train()
            watch = _WatchBackward(net.stack)
            with watch:
                settings = replace(net.settings, progress=turn / turns)
                net.rule.step(net.stack, inputs, target_values, settings)
            watch.check_all_seen()


class _WatchBackward(TorchFunctionMode):
    """Looks at every tensor that `torch.Tensor.backward` is called on, before it is."""

    def __init__(self, stack: BlockStack) -> None:
        super().__init__()
        self._stack = stack
        self._owners: dict[int, tuple[int, str]] = {
            id(weight): (block_index, f"blocks.{block_index}.{name}")
            for block_index in range(len(stack))
            for name, weight in stack[block_index].named_parameters()
        }
        self._seen: set[int] = set()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is Tensor.backward:
            for term in _terms(args[0]):
                self._check(term)
        return function(*args, **(kwargs or {}))

    def _check(self, term: Any) -> None:
        """Refuse a loss that reaches weights of two blocks; its own is the later one."""
        weights = [weight for weight in _reached(term) if isinstance(weight, nn.Parameter)]
        found = [self._owners.get(id(weight), (-1, "a weight")) for weight in weights]
        if not found:
            return
        own = max(block_index for block_index, _ in found)
        self._seen.add(own)
        for block_index, name in found:
            if block_index != own:
                where = f"block {block_index}" if block_index >= 0 else "no block"
                raise IsolationError(
                    f"loss of block {own}",
                    f"reaches {name} of {where}.",
                    "Detach the features that a block hands on.",
                )

    def check_all_seen(self) -> None:
        """Refuse gradients that came from somewhere else than `torch.Tensor.backward`."""
        for block_index in range(len(self._stack)):
            learns = any(p.grad is not None for p in self._stack[block_index].parameters())
            if learns and block_index not in self._seen:
                raise IsolationError(
                    f"loss of block {block_index}",
                    "was not seen: its gradients do not come from loss.backward().",
                    "Call backward on the loss of each block.",
                )


def reached_parameters(tensor: Tensor) -> list[nn.Parameter]:
    """List the parameters that a gradient of a tensor would reach."""
    return [leaf for leaf in _reached(tensor.grad_fn) if isinstance(leaf, nn.Parameter)]


def settle_blocks(stack: BlockStack, sample: Tensor, network: nn.Module) -> None:
    """Refuse weights that a block hides: of another block, of none, or without a gradient.

    A stage that changes its input in place gets a copy of it.

    Parameters
    ----------
    sample : torch.Tensor (1, ...)
        An input.
    network : torch.nn.Module
        Tells the names of weights.

    Raises
    ------
    ConfigError
        Naming the weight.
    """
    names = {id(weight): name for name, weight in network.named_parameters()}
    owners = {
        id(weight): index for index in range(len(stack)) for weight in stack[index].parameters()
    }
    seen: set[int] = set()
    for is_training in (False, True):
        with rehearsing(nn.ModuleList([network, stack]), is_training), torch.enable_grad():
            features = sample.clone()
            for block_index in range(len(stack)):
                given, block = features.detach(), stack[block_index]
                features = _settle(block, block_index, given, owners, names, seen)
    for block_index in range(len(stack)):
        for stage in stack[block_index].body:
            learning = [weight for weight in stage.parameters() if weight.requires_grad]
            if learning and not any(id(weight) in seen for weight in learning):
                problem = f"no gradient is seen to reach {_describe(learning[0], names)}."
                remedy = "Take detach or no_grad away, use_reentrant=False; or freeze the weight."
                raise ConfigError(f"block {block_index}", problem, remedy)


def _settle(
    block: LocalBlock,
    block_index: int,
    given: Tensor,
    owners: Mapping[int, int],
    names: Mapping[int, str],
    seen: set[int],
) -> Tensor:
    """Judge one block on an input; note the weights of its body that are reached."""
    features = given
    for stage in block.body:
        version, taken = features._version, features
        features = stage(features)
        # Stages below, losses that read it, and recomputing need an input as it came.
        if taken._version != version:
            stage.register_forward_pre_hook(_copy_input)
    for weight in reached_parameters(features):
        owner, what = owners.get(id(weight)), _describe(weight, names)
        if owner is None:
            problem = f"{what} is used between stages and belongs to none."
            raise ConfigError("stages", problem, "Give a module that holds it, not a function.")
        if owner != block_index:
            problem = f"blocks {owner} and {block_index} share {what}."
            raise ConfigError("stages", problem, "Untie it, or let both lie in one block.")
        seen.add(id(weight))
    for weight in reached_parameters(block.head(features.detach())) if block.head else ():
        if owners.get(id(weight)) != block_index:
            problem = f"copies a function that uses {_describe(weight, names)} of a later block."
            raise ConfigError(f"head of block {block_index}", problem, "Use head: linear.")
    return features


def _describe(weight: Tensor, names: Mapping[int, str]) -> str:
    return f"{names.get(id(weight), 'a weight')} {tuple(weight.shape)}"


@contextmanager
def rehearsing(module: nn.Module, is_training: bool) -> Iterator[None]:
    """Run a module without gradients, in training but for batch statistics, or in evaluation.

    Modes, state and random numbers stay as they were; the draws are the same each time.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    cuda = sorted({w.device for w in module.parameters() if w.is_cuda}, key=str)
    with evaluating(module), torch.random.fork_rng(cuda):
        for part in module.modules():
            part.training = is_training and not isinstance(part, nn.modules.batchnorm._BatchNorm)
        torch.manual_seed(0)
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)


def _copy_input(stage: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0].clone()


def _terms(loss: Tensor) -> Iterator[Any]:
    """Graph nodes of the terms of a sum: losses of several blocks may be added up."""
    left = [loss.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node.name() == "AddBackward0":
            left += [following for following, _ in node.next_functions]
        else:
            yield node


def _reached(node: Any) -> list[Tensor]:
    """Leaves of the graph behind a node."""
    left, seen, leaves = [node], {None}, []
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # torch's AccumulateGrad
            leaves.append(node.variable)
        left += [following for following, _ in node.next_functions]
    return leaves


@contextmanager
def _untouched(stack: BlockStack) -> Iterator[None]:
    """Give gradients, buffers, modes and random numbers back as they were."""
    gradients = [(weight, weight.grad) for weight in stack.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in stack.buffers()]
    modes = [(module, module.training) for module in stack.modules()]
    devices = sorted({weight.device for weight, _ in gradients if weight.is_cuda}, key=str)
    stack.zero_grad(set_to_none=True)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for weight, gradient in gradients:
            weight.grad = gradient
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
