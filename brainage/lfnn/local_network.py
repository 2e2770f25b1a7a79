"""A network of the user's own, trained block by block: `localize` and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from brainage.errors import ConfigError
from brainage.lfnn.blocks import (
    BlockPlace,
    BlockStack,
    build_stack,
    check_starts,
    evaluating,
    pass_sample,
    split,
)
from brainage.lfnn.chain import (
    Network,
    Step,
    check_chain,
    check_sequential,
    check_untied,
    first_tensor,
    is_same,
    join_steps,
    list_steps,
    make_lazy_weights,
    place_channels,
    tensors_of,
)
from brainage.lfnn.heads import build_head
from brainage.lfnn.isolation import reached_parameters, settle_blocks
from brainage.lfnn.rules import METHOD_RULES
from brainage.lfnn.step import AuxiliaryRequest, LeaderFraction, Rule, StepSettings
from brainage.lfnn.targets import Target
from brainage.lfnn.workers import Head, NativeHead


class BlockOptimizers(list[Optimizer]):
    """Optimizers of the blocks, in order; those of blocks without weights are left out."""

    def step(self) -> None:
        """Move the weights of every block."""
        for optimizer in self:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients of every block."""
        for optimizer in self:
            optimizer.zero_grad()


class LocalNetwork(nn.Module):
    """A network cut into blocks that learn by a method; made by `localize`.

    Attributes
    ----------
    stack : BlockStack
        The blocks with their heads; their weights are those of the network.
    rule : Rule
        The method.
    settings : StepSettings
        Target, leader fraction, weights of the losses, autocast; replace it to change them.
    losses : tuple of torch.Tensor
        Of the last step: one scalar for each block that learned.
    """

    def __init__(
        self, stack: BlockStack, rule: Rule, settings: StepSettings, network: nn.Module
    ) -> None:
        super().__init__()
        self.stack, self.rule, self.settings = stack, rule, settings
        self.losses: tuple[Tensor, ...] = ()
        self._network = (network,)  # no submodule: its weights are those of the stack

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the network's output (B, C): ``net.settings.target.predict`` reads it.

        Examples
        --------
        >>> import torch
        >>> from brainage import lfnn
        >>> target, x = lfnn.Ages(20, 90), torch.randn(4, 1, 8, 8, 8)
        >>> layers = [torch.nn.Conv3d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv3d(4, 8, 3)]
        >>> net = lfnn.localize(layers, blocks=2, target=target, example=x).eval()
        >>> ages_years = target.predict(net(x))
        >>> ages_years.shape
        torch.Size([4])
        """
        output: Tensor = self.stack(inputs)
        return output

    def train(self, mode: bool = True) -> "LocalNetwork":
        """Set the mode of the blocks, and of the network that functions between them may ask."""
        self.plain().train(mode)
        return super().train(mode)

    def step(self, inputs: Tensor, target_values: Tensor, progress: float | None = None) -> Tensor:
        """Leave the gradients of one training step in the weights; return the sum of the losses.

        They add up until they are zeroed: over four quarters of a batch to four times those of the
        whole, where all workers lead and nothing compares samples (as BatchNorm and predsim do).

        Parameters
        ----------
        inputs : torch.Tensor (B, ...)
            A batch.
        target_values : torch.Tensor (B,)
            Its classes or ages in years.
        progress : float, optional
            Share of the training that is done, in [0, 1): `greedy`, which trains one block after
            another, wants it.

        Returns
        -------
        torch.Tensor
            Scalar without a gradient; `losses` holds its parts.

        Examples
        --------
        >>> import torch
        >>> from brainage import lfnn
        >>> x, y = torch.randn(8, 4), torch.randint(3, (8,))
        >>> layers = [torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)]
        >>> net = lfnn.localize(layers, blocks=2, target=lfnn.Classes(3), example=x)
        >>> loss = net.step(x, y)
        >>> len(net.losses)
        2
        """
        if progress is None and self.rule.trains_in_turn:
            problem = "the method trains one block after another and must know whose turn it is."
            raise ConfigError("progress", problem, "Give step the share of the training done.")
        if not 0 <= (progress or 0) <= 1:
            problem = f"expected the share of the training that is done, 0 to 1, got {progress}."
            raise ConfigError("progress", problem)
        settings = replace(self.settings, progress=progress or 0.0)
        self.losses = self.rule.step(self.stack, inputs, target_values, settings).losses
        return torch.stack([loss.float() for loss in self.losses]).sum()

    def optimizers(self, build: Callable[[Sequence[nn.Parameter]], Optimizer]) -> BlockOptimizers:
        """Build one optimizer a block.

        Parameters
        ----------
        build : callable
            From the parameters of a block, its head included, to an optimizer. Frozen ones are
            among them: they learn once they are unfrozen.

        Examples
        --------
        >>> import torch
        >>> from brainage import lfnn
        >>> x, layers = torch.randn(8, 4), [torch.nn.Linear(4, 16), torch.nn.Linear(16, 3)]
        >>> net = lfnn.localize(layers, blocks=2, target=lfnn.Classes(3), example=x)
        >>> opt = net.optimizers(lambda params: torch.optim.SGD(params, lr=0.1))
        >>> schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(each, 100) for each in opt]
        >>> len(opt)
        2
        """
        blocks = [list(block.parameters()) for block in self.stack.blocks]
        return BlockOptimizers(build(parameters) for parameters in blocks if parameters)

    def plain(self) -> nn.Module:
        """Return the network as it was given, with the weights learned so far.

        Heads stay behind, that of the output too where `localize` added one. A list or dict of
        stages comes back as a `torch.nn.Sequential` of the same names.

        Examples
        --------
        >>> import torch
        >>> from brainage import lfnn
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3))
        >>> x = torch.randn(8, 4)
        >>> net = lfnn.localize(network, blocks=2, target=lfnn.Classes(3), example=x)
        >>> list(net.plain().state_dict())
        ['0.weight', '0.bias', '1.weight', '1.bias']
        """
        return self._network[0]


def localize(
    network: Network,
    *,
    target: Target,
    example: Tensor,
    blocks: int | Sequence[str] = 4,
    method: str | Rule = "lfnn_l",
    head: str | Head = "linear",
    leader_fraction: LeaderFraction = 1.0,
    stages: Sequence[str | Step] | None = None,
) -> LocalNetwork:
    """Cut a network into blocks that learn from errors of their own.

    Where the network ends in (B, C) with the target's C, that is the output; elsewhere a linear
    head is added behind it. Weights are not copied: training the result trains the network.

    Parameters
    ----------
    network : torch.nn.Module, sequence or mapping
        A `torch.nn.Sequential`, a `torch.nn.ModuleList`, a list or dict of modules; or any module
        whose forward is a chain, with `stages`.
    target : Target
        `Classes`, `Ages` or `ScalarAge`.
    example : torch.Tensor (B, ...)
        A batch of inputs, on the device of the network: images, volumes, vectors or token ids.
    blocks : int or sequence of str
        K blocks of about equal work; or the names of the stages that start a block.
    method : str or Rule
        `lfnn_l`, `lfnn`, `predsim`, `infopro`, `infopro_contrast`, `movement`, `mono_forward`,
        `greedy`, `dfa`, `deep_supervision`, `bp`; a rule of your own (`local_rule`), or its name
        ``package.module:RULE``.
    head : str or Head
        What reads a hidden block: linear, conv, thin, dgl, auglocal, native; `Head` has all its
        settings.
    leader_fraction : float or "auto"
        δ, the share of a block's workers that lead.
    stages : sequence, optional
        The parts of a module in the order of its forward: names of submodules, modules of your
        own, and functions for what the forward does between them. A Sequential or ModuleList
        stands for its members; of a part that gives a tuple, the first tensor goes on. Features
        (B, C, L) of 1-D convolutions are read as L tokens.

    Raises
    ------
    ConfigError
        If the stages are no chain (a skip connection over one of them), two blocks share a
        weight, a weight or a random part belongs to no stage, or there are more blocks than stages.

    References
    ----------
    Cheng, Yin et al., arXiv 2310.07885.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from brainage import lfnn
    >>> network = nn.Sequential(
    ...     nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
    ...     nn.Linear(128, 10),
    ... )
    >>> x, y = torch.randn(16, 1, 8, 8), torch.randint(10, (16,))
    >>> net = lfnn.localize(network, blocks=3, target=lfnn.Classes(10), example=x)
    >>> opt = net.optimizers(lambda params: torch.optim.SGD(params, lr=0.1))
    >>> for _ in range(3):
    ...     loss = net.step(x, y)
    ...     opt.step()
    ...     opt.zero_grad()
    >>> net(x).shape, net.plain() is network
    (torch.Size([16, 10]), True)

    A module that flattens in its forward; names stand for what it is made of:

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(288, 10)
    ...     def forward(self, x):
    ...         return self.fc(torch.relu(self.conv(x)).flatten(1))
    >>> net = lfnn.localize(
    ...     Net(), blocks=2, target=lfnn.Classes(10), example=x,
    ...     stages=["conv", torch.relu, lambda x: x.flatten(1), "fc"],
    ... )
    """
    is_share = isinstance(leader_fraction, int | float) and 0 < leader_fraction <= 1
    if leader_fraction != "auto" and not is_share:
        problem = f'expected a share above 0 and up to 1, or "auto", got {leader_fraction!r}.'
        raise ConfigError("leader_fraction", problem)
    if not isinstance(example, Tensor):
        problem = f"expected one tensor (B, ...), got a {type(example).__name__}."
        raise ConfigError("example", problem, "Join several inputs to one, that a stage parts.")
    rule = method if isinstance(method, Rule) else METHOD_RULES[method]
    read = head if isinstance(head, Head) else Head(head)
    steps = list_steps(network, stages)
    owner = network if isinstance(network, nn.Module) else _as_sequential(steps)
    if stages is not None:
        pass_sample(owner, example[:1])  # told in a line where the forward wants more than one
        check_chain(owner, steps, example)
        _check_complete(owner, steps, example[:1])
    joined, sample = join_steps(steps), example[:1]
    make_lazy_weights(joined, sample)
    if stages is None:
        check_sequential(network, joined, sample)
    starts = list(joined) if rule.cuts_every_stage else _cut(joined, sample, blocks)
    check_untied(joined, starts)

    def build_parts(place: BlockPlace) -> tuple[nn.Module | None, nn.Module | None]:
        reader: nn.Module | None = None
        auxiliary: nn.Module | None = None
        shape = place.feature_shape
        if place.is_last and shape == (target.outputs,):
            reader = NativeHead(shape, target.outputs, workers=1)
        elif place.is_last or rule.has_hidden_heads:
            hidden = rule.own_head or read
            reader = build_head(read if place.is_last else hidden, place, target.outputs)
        if not place.is_last and rule.build_auxiliary is not None:
            request = AuxiliaryRequest(
                shape, target.outputs, leader_fraction, place.input_shape, read.workers
            )
            auxiliary = rule.build_auxiliary(request)
        return reader, auxiliary

    joined = place_channels(joined, starts, sample, read.channels_last)
    stack = build_stack(joined, starts, sample, build_parts)
    settle_blocks(stack, sample, owner)
    return LocalNetwork(stack, rule, StepSettings(target, leader_fraction), owner)


def _cut(stages: Mapping[str, nn.Module], sample: Tensor, blocks: int | Sequence[str]) -> list[str]:
    if isinstance(blocks, int) and not isinstance(blocks, bool) and blocks > 0:
        return split(stages, sample, blocks=blocks)
    if isinstance(blocks, int | str) or not blocks:
        raise ConfigError("blocks", f"expected 1 or more, or names of stages, got {blocks!r}.")
    return check_starts(blocks, stages)


def _as_sequential(steps: Mapping[str, nn.Module]) -> nn.Sequential:
    sequential = nn.Sequential()
    for name, step in steps.items():
        sequential.add_module(name, step)
    return sequential


def _check_complete(network: nn.Module, steps: Mapping[str, nn.Module], sample: Tensor) -> None:
    """Refuse a weight of the forward that no stage has.

    One that is zero at first, as a position embedding may be, changes no number that `check_chain`
    compares: it would stay behind, untrained.
    """
    own = {id(weight) for step in steps.values() for weight in step.parameters()}
    names = {id(weight): name for name, weight in network.named_parameters()}
    with evaluating(nn.ModuleList([network, *steps.values()])), torch.enable_grad():
        features = sample.clone()
        for step in steps.values():
            features = first_tensor(step(features))
        outputs = [out for out in tensors_of(network(sample.clone())) if is_same(out, features)]
    own |= {id(weight) for weight in reached_parameters(features)}  # `settle_blocks` judges those
    for weight in [weight for output in outputs for weight in reached_parameters(output)]:
        if id(weight) not in own:
            name = names.get(id(weight), "a weight")
            problem = f"{name} {tuple(weight.shape)} is used in the forward, but by no stage."
            raise ConfigError("stages", problem, "Give a module that holds and uses it.")
