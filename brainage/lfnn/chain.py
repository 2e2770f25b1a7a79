"""A network as a chain of stages: found in a module of any kind, and checked against its forward.

A stage is a module with weights and what follows it up to the next one: activations, pooling and
whatever else the network's forward does there.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brainage.errors import ConfigError
from brainage.lfnn.blocks import evaluating, group_stages

Step = nn.Module | Callable[[Tensor], Tensor]
"""Part of a forward pass: a module, or a function for what happens between modules."""

Network = nn.Module | Sequence[Step] | Mapping[str, nn.Module]


class Stage(nn.Sequential):
    """Steps that are never cut apart; of a step that gives a tuple, its first tensor goes on."""

    def forward(self, features: Tensor) -> Tensor:
        """Run the steps one after another."""
        for step in self:
            features = first_tensor(step(features))
        return features


class _Dropouts(TorchFunctionMode):
    """Counts calls of dropout by their rate: in evaluation they change no number."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: Counter[float] = Counter()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if "dropout" in getattr(function, "__name__", "") and given.get("p", 0) > 0:
            self.rates[given["p"]] += 1
        return function(*args, **given)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: Tensor) -> Tensor:
        """Call the function."""
        return self.function(features)


def name_stages(network: Network, stages: Sequence[str | Step] | None = None) -> dict[str, Stage]:
    """List a network's stages by name, in order; see `list_steps`."""
    return join_steps(list_steps(network, stages))


def list_steps(
    network: Network, stages: Sequence[str | Step] | None = None
) -> dict[str, nn.Module]:
    """List the steps of a network's forward pass by name.

    Parameters
    ----------
    network : torch.nn.Module, sequence or mapping
        A `torch.nn.Sequential`, a `torch.nn.ModuleList`, modules in a list or dict; or any module,
        whose steps `stages` lists.
    stages : sequence, optional
        Names of submodules, modules, and functions for what the forward does between them. The
        name of a Sequential or ModuleList stands for all its members.

    Raises
    ------
    ConfigError
        If a name is unknown, or a module that is no container comes without `stages`.
    """
    if stages is not None:
        if not isinstance(network, nn.Module):
            raise ConfigError("stages", "name parts of a module, and `network` is none.")
        return dict(_named_steps(network, stages))
    if isinstance(network, Mapping | nn.ModuleDict):
        return {name: _as_module(step) for name, step in network.items()}
    if isinstance(network, nn.Module) and not is_container(network):
        names = ", ".join(name for name, _ in network.named_children())
        raise ConfigError(
            "network",
            f"the order of the parts of a {type(network).__name__} is not known.",
            f"Name them in order: stages=[…], from {names}.",
        )
    return {str(number): _as_module(step) for number, step in enumerate(network)}  # type: ignore[arg-type]


def is_container(module: nn.Module) -> bool:
    """Whether a module is a ModuleList, or a Sequential with torch's own forward."""
    if isinstance(module, nn.Sequential):
        return type(module).forward in (nn.Sequential.forward, Stage.forward)
    return isinstance(module, nn.ModuleList)


def _named_steps(
    network: nn.Module, stages: Sequence[str | Step]
) -> Iterator[tuple[str, nn.Module]]:
    for number, step in enumerate(stages):
        if not isinstance(step, str):
            yield f"stages[{number}]", _as_module(step)
            continue
        try:
            module = network.get_submodule(step)
        except AttributeError as error:
            names = ", ".join(name for name, _ in network.named_children())
            raise ConfigError(
                "stages", f"the network has no part {step!r}.", f"It has: {names}."
            ) from error
        if is_container(module):
            yield from ((f"{step}.{name}", member) for name, member in module.named_children())
        else:
            yield step, module


def _as_module(step: Step) -> nn.Module:
    return step if isinstance(step, nn.Module) else Call(step)


def join_steps(steps: Mapping[str, nn.Module]) -> dict[str, Stage]:
    """Join steps without weights to the step before them, or to the first one that has any.

    Raises
    ------
    ConfigError
        If no step has weights.
    """
    groups: dict[str, list[nn.Module]] = {}
    waiting: list[nn.Module] = []
    for name, step in steps.items():
        if next(step.parameters(), None) is not None:
            groups[name] = [*waiting, step]
            waiting = []
        elif groups:
            groups[next(reversed(groups))].append(step)
        else:
            waiting.append(step)
    if not groups:
        raise ConfigError("network", "has no weights.", "Give modules that learn.")
    return {name: Stage(*group) for name, group in groups.items()}


def check_chain(network: nn.Module, steps: Mapping[str, nn.Module], example: Tensor) -> None:
    """Compare the steps, run one after another, with the network's own forward pass.

    Parameters
    ----------
    example : torch.Tensor (B, ...)
        A batch of inputs.

    Raises
    ------
    ConfigError
        If a step works on something else than what the step before it gives (such as a skip
        connection over it), runs never or twice, or the last one gives none of the outputs; or
        the network has dropout that no step has.
    """
    own, listed = _Dropouts(), _Dropouts()
    with evaluating(nn.ModuleList([network, *steps.values()])):
        with own:
            inputs, outputs = _run_recorded(network, list(steps.values()), example.clone())
        features, before = example.clone(), "the input"
        for name, step in steps.items():
            _check_input(name, before, features, inputs.get(id(step)))
            try:
                with listed:
                    features, before = first_tensor(step(features)), repr(name)
            except (RuntimeError, TypeError) as error:
                reason = str(error).splitlines()[0][:120]
                raise _no_chain(
                    name, f"cannot work on what {before} gives alone ({reason})"
                ) from error
    if not any(is_same(features, output) for output in outputs):
        raise _no_chain(name, "gives something else than the network's output")
    if lacking := own.rates - listed.rates:
        rates = ", ".join(f"{rate:g}" for rate in sorted(lacking.elements()))
        problem = f"the forward has dropout ({rates}) that no stage has."
        raise ConfigError("stages", problem, "Add it where it stands, or set its rate to 0.")


def _run_recorded(
    network: nn.Module, steps: Sequence[nn.Module], example: Tensor
) -> tuple[dict[int, list[Tensor]], list[Tensor]]:
    """First input of every call of the network's own steps, by identity, and its outputs."""
    own = {id(module) for module in network.modules()}
    inputs: dict[int, list[Tensor]] = {id(step): [] for step in steps if id(step) in own}

    def record(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        given = tensors_of((args, kwargs))
        # A later step may change it in place.
        inputs[id(module)].append(given[0].clone() if given else torch.empty(0))

    handles = [
        step.register_forward_pre_hook(record, with_kwargs=True)
        for step in {id(step): step for step in steps}.values()
        if id(step) in inputs
    ]
    try:
        return inputs, tensors_of(network(example))
    finally:
        for handle in handles:
            handle.remove()


def _check_input(name: str, before: str, features: Tensor, calls: list[Tensor] | None) -> None:
    if calls is None:  # no part of the network: what it gives is checked behind it
        return
    if len(calls) != 1:
        raise _no_chain(name, f"runs {len(calls)} times in the network's forward")
    if not is_same(calls[0], features):
        shapes = f"{tuple(calls[0].shape)} and {tuple(features.shape)}"
        raise _no_chain(name, f"works on something else than what {before} gives ({shapes})")


def _no_chain(name: str, problem: str) -> ConfigError:
    return ConfigError(
        f"stage {name!r}",
        f"{problem}, so that the stages are no chain.",
        "Put what happens in between into `stages` as a function; join what a skip connection "
        "spans into one module.",
    )


def is_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two results agree but for rounding."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


def check_untied(stages: Mapping[str, nn.Module], starts: Sequence[str]) -> None:
    """Refuse weights that blocks share: they would learn from the losses of both.

    Raises
    ------
    ConfigError
        Naming the two stages and the weight.
    """
    owners: dict[int, tuple[int, str]] = {}
    for block_index, group in enumerate(group_stages(stages, starts)):
        for stage in group:
            for name, weight in stages[stage].named_parameters():
                if weight.numel() == 0:
                    continue
                owner, other = owners.setdefault(weight.data_ptr(), (block_index, stage))
                if owner != block_index:
                    raise ConfigError(
                        "network",
                        f"stages {other!r} and {stage!r} share a weight ({name}, "
                        f"{tuple(weight.shape)}) across blocks {owner} and {block_index}.",
                        "Untie it, or use fewer blocks so that both lie in one.",
                    )


def first_tensor(output: object) -> Tensor:
    """Return the features of what a step gives: the tensor, or the first one of several.

    Raises
    ------
    ConfigError
        If there is no tensor.
    """
    if isinstance(output, Tensor):
        return output
    tensors = tensors_of(output)
    if not tensors:
        raise ConfigError("stages", f"a step gives a {type(output).__name__}, no tensor.")
    return tensors[0]


def tensors_of(output: object) -> list[Tensor]:
    """List the tensors in nested tuples, lists and mappings, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for item in output for tensor in tensors_of(item)]
    return []
