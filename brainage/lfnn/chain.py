"""A network as a chain of stages: found in a module of any kind, and checked against its forward.

A stage is a module with weights and what follows it up to the next one: activations, pooling and
whatever else the network's forward does there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from brainage.errors import ConfigError, first_line
from brainage.lfnn.blocks import (
    FORWARD_ERRORS,
    evaluating,
    group_stages,
    pass_sample,
)
from brainage.lfnn.isolation import rehearsing

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


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: Tensor) -> Tensor:
        """Call the function."""
        return self.function(features)


_ON_SEQUENCES = nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm


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
        steps: dict[str, nn.Module] = {}
        for name, step in _named_steps(network, stages):  # one pooling layer may stand twice
            steps[f"{name} at {len(steps)}" if name in steps else name] = step
        return steps
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
            # Not named_children, which leaves out a member that stands there twice.
            members = {name: part for name, part in module._modules.items() if part is not None}
            yield from ((f"{step}.{name}", member) for name, member in members.items())
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
    example = _with_detail(example)
    with evaluating(nn.ModuleList([network, *steps.values()])):
        inputs, outputs = _run_recorded(network, list(steps.values()), example.clone())
        features, before = example.clone(), "the input"
        for name, step in steps.items():
            _check_input(name, step, before, features, inputs.get(id(step)))
            try:
                features, before = first_tensor(step(features)), repr(name)
            except FORWARD_ERRORS as error:
                problem = f"cannot work on what {before} gives alone ({first_line(error)})"
                raise _no_chain(name, problem) from error
    if not any(is_same(features, output) for output in outputs):
        raise _no_chain(name, "gives something else than the network's output")
    if not _agrees(network, steps, example, is_training=True):
        problem = "in training the forward has dropout, or another random part, that no stage has."
        raise ConfigError("stages", problem, "Add it where it stands, or set its rate to 0.")


def _with_detail(example: Tensor) -> Tensor:
    """Noise for zeros, other constants and what is not finite: they would prove any chain."""
    if not (example.is_floating_point() or example.is_complex()):
        return example
    if example.isfinite().all() and (example != example.flatten()[:1]).any():
        return example
    generator = torch.Generator().manual_seed(0)
    dtype = example.dtype if example.is_complex() else None
    return torch.randn(example.shape, generator=generator, dtype=dtype).to(example)


def check_sequential(network: object, steps: Mapping[str, nn.Module], sample: Tensor) -> None:
    """Compare a Sequential's own forward with its members, run one after another.

    Raises
    ------
    ConfigError
        If they differ, as by its hooks, or by tuples that members hand on whole.
    """
    if not isinstance(network, nn.Sequential):
        return
    for is_training in (False, True):
        try:
            agrees = _agrees(network, steps, _with_detail(sample), is_training)
        except FORWARD_ERRORS:  # of a part that gives a tuple, the first tensor goes on
            return
        if not agrees:
            problem = "its members, run one after another, give something else than its forward."
            remedy = "Join members that hand on tuples; put what its hooks do into a member."
            raise ConfigError("network", problem, remedy)


def _agrees(
    network: nn.Module, steps: Mapping[str, nn.Module], example: Tensor, is_training: bool
) -> bool:
    """Compare network and steps from the same random numbers, where the network repeats itself."""
    parts, chain = nn.ModuleList([network, *steps.values()]), Stage(*steps.values())

    def run(module: nn.Module) -> list[Tensor]:
        with rehearsing(parts, is_training):
            return tensors_of(module(example.clone()))

    own, again, listed = run(network), run(network), run(chain)[0]
    repeats = all(is_same(one, other) for one, other in zip(own, again, strict=True))
    return not repeats or any(is_same(listed, output) for output in own)


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


def _check_input(
    name: str, step: nn.Module, before: str, features: Tensor, calls: list[Tensor] | None
) -> None:
    if calls is None:  # no part of the network: what it gives is checked behind it
        return
    # An activation or pooling may serve several places.
    if not calls or (len(calls) > 1 and next(step.parameters(), None) is not None):
        raise _no_chain(name, f"runs {len(calls)} times in the network's forward")
    if not any(is_same(call, features) for call in calls):
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
    size = one.detach().abs().nan_to_num(0, 0, 0).amax() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(size), equal_nan=True)


def make_lazy_weights(stages: Mapping[str, nn.Module], sample: Tensor) -> None:
    """Let lazy layers make their weights, which are drawn now."""
    network = nn.Sequential(*stages.values())
    if any(is_lazy(weight) for weight in network.parameters()):
        pass_sample(network, sample)


def place_channels(
    stages: Mapping[str, Stage], starts: Sequence[str], sample: Tensor, channels_last: bool
) -> dict[str, Stage]:
    """Move channels where a block ends to where heads look for them, and back behind it.

    In maps to the front, where `channels_last` says that they are not; in sequences (B, C, L) of
    1-D convolutions to the end, so that they are L tokens.
    """
    changed, groups = dict(stages), group_stages(stages, starts)
    for group, behind in zip(groups, [*groups[1:], []], strict=True):
        sample = pass_sample(nn.Sequential(*(stages[name] for name in group)), sample)
        last = group[-1]
        if channels_last and sample.ndim > 3:
            here, wanted = -1, 1
        elif sample.ndim == 3 and sample.shape[1] == _sequence_channels(stages[last]):
            here, wanted = 1, -1
        else:
            continue
        changed[last] = Stage(*changed[last], Call(partial(_move, here, wanted)))
        if behind:
            first = behind[0]
            changed[first] = Stage(Call(partial(_move, wanted, here)), *changed[first])
    return changed


def _sequence_channels(stage: nn.Module) -> int | None:
    """Channels that a stage gives whose last layer works on sequences (B, C, L)."""
    leaves = [part for part in stage.modules() if not isinstance(part, ParametrizationList)]
    last = [part for part in leaves if isinstance(part, _ON_SEQUENCES) or _has_weights(part)][-1]
    if isinstance(last, nn.Conv1d | nn.ConvTranspose1d):
        return last.out_channels
    if isinstance(last, nn.BatchNorm1d | nn.InstanceNorm1d):
        return last.num_features
    return last.num_channels if isinstance(last, nn.GroupNorm) else None


def _has_weights(layer: nn.Module) -> bool:
    return any(weight is not None for weight in layer._parameters.values())


def _move(here: int, wanted: int, features: Tensor) -> Tensor:
    return features.movedim(here, wanted)


def check_untied(stages: Mapping[str, nn.Module], starts: Sequence[str]) -> None:
    """Refuse weights that blocks share: they would learn from the losses of both.

    Raises
    ------
    ConfigError
        Naming the two stages and the weight.
    """
    seen: list[tuple[int, int, int, str]] = []
    for block_index, group in enumerate(group_stages(stages, starts)):
        for stage in group:
            for name, weight in stages[stage].named_parameters():
                first, last = _addresses(weight)
                for start, end, owner, other in seen:
                    if owner != block_index and first < end and start < last:
                        raise ConfigError(
                            "network",
                            f"stages {other!r} and {stage!r} share a weight ({name}, "
                            f"{tuple(weight.shape)}) across blocks {owner} and {block_index}.",
                            "Untie it, or use fewer blocks so that both lie in one.",
                        )
                seen.append((first, last, block_index, stage))


def _addresses(weight: Tensor) -> tuple[int, int]:
    """First byte in memory, and the one behind the last."""
    if weight.numel() == 0:
        return 0, 0
    reach = sum((n - 1) * step for n, step in zip(weight.shape, weight.stride(), strict=True))
    return weight.data_ptr(), weight.data_ptr() + (reach + 1) * weight.element_size()


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
