"""Join the learning rule and the networks: settings in, a BlockStack and its target out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import torch
from torch import Tensor, nn

from brainage.config import Config, LearningConfig, TargetConfig
from brainage.errors import BundleError, ConfigError
from brainage.lfnn.blocks import (
    FORMER_NAME,
    FORWARD_ERRORS,
    BlockPlace,
    BlockStack,
    LocalBlock,
    block_shares,
    build_stack,
    check_starts,
    choose_starts,
    evaluating,
    split,
)
from brainage.lfnn.chain import (
    check_sequential,
    check_untied,
    is_same,
    make_lazy_weights,
    name_stages,
)
from brainage.lfnn.heads import build_head
from brainage.lfnn.isolation import settle_blocks
from brainage.lfnn.rules import METHOD_RULES
from brainage.lfnn.step import AuxiliaryRequest
from brainage.lfnn.targets import Ages, Classes, ScalarAge, Target
from brainage.lfnn.workers import Head
from brainage.named_code import check_trusted, is_code_name, load_code
from brainage.networks import build_stages
from brainage.networks._amplitude import UnitAmplitude


def resolve_target(config: Config, training_ages: Sequence[float]) -> Config:
    """Fill the age range of the target from the training ages, where the settings leave it open.

    Parameters
    ----------
    training_ages : sequence of float
        Ages in years of the training scans only.
    """
    target = config.target
    low = target.low_years
    high = target.high_years
    if low is None:
        low = max(0.0, float(min(training_ages)) - target.margin_years)
    if high is None:
        high = float(max(training_ages)) + target.margin_years
    if low >= high:
        raise ConfigError("target", f"the age range is empty: {low:g} to {high:g} years.")
    resolved = target.model_copy(update={"low_years": low, "high_years": high})
    return config.model_copy(update={"target": resolved})


def build_target(target: TargetConfig) -> Target:
    """Build the learning target of resolved settings.

    Raises
    ------
    ConfigError
        If the age range or the number of classes is open.
    """
    if target.kind == "classes":
        if target.classes is None:
            raise ConfigError("target.classes", "is open.", "Load the data set first.")
        return Classes(target.classes, target.label_smoothing)
    if target.low_years is None or target.high_years is None:
        raise ConfigError("target.low_years", "the age range is open.", "Give low and high years.")
    if target.kind == "scalar":
        return ScalarAge(target.low_years, target.high_years)
    return Ages(target.low_years, target.high_years, target.bins, target.sigma_bins)


def build_model(config: Config) -> BlockStack:
    """Build the network cut into blocks, with the heads that the method needs.

    Bodies and the output head start from the same weights for every method of a seed.
    """
    learning, outputs = config.learning, build_target(config.target).outputs
    rule, head = METHOD_RULES[learning.method], _head_of(learning)

    def build_parts(place: BlockPlace) -> tuple[nn.Module | None, nn.Module | None]:
        reader, auxiliary = None, None
        if place.is_last or rule.has_hidden_heads:
            read = head if place.is_last else rule.own_head or head
            label = "output" if place.is_last else str(place.block_index)
            with seeded(config.seed, "head", label):
                reader = build_head(read, place, outputs)
        if not place.is_last and rule.build_auxiliary is not None:
            request = AuxiliaryRequest(
                place.feature_shape,
                outputs,
                learning.leader_fraction,
                place.input_shape,
                head.workers,
            )
            with seeded(config.seed, FORMER_NAME, place.block_index):
                auxiliary = rule.build_auxiliary(request)
        return reader, auxiliary

    stages = _build_stages(config)
    starts = cut(config, stages)
    check_untied(stages, starts)
    stack = build_stack(stages, starts, _sample(config), build_parts)
    if is_code_name(config.network.name):
        settle_blocks(stack, _sample(config), stack)
    return stack


def _head_of(learning: LearningConfig) -> Head:
    return Head(
        kind=learning.head,
        workers=learning.workers_per_block,
        reads=learning.worker_reads,
        pool=learning.head_pool,
        norm=learning.head_norm,
        dropout=learning.head_dropout,
        token=learning.head_token,
        output_pool=learning.output_pool,
    )


def _sample(config: Config) -> Tensor:
    return torch.zeros(1, *config.input_shape)


def _build_stages(config: Config) -> dict[str, nn.Module]:
    channels, *size = config.input_shape
    with seeded(config.seed, "body"):
        stages = build_stages(config.network.name, channels, tuple(size), config.network.arguments)
        if is_code_name(config.network.name):
            network, stages = stages, dict(name_stages(stages))
            make_lazy_weights(stages, _sample(config))
            check_sequential(network, stages, _sample(config))
    if config.network.unit_amplitude:
        first = next(iter(stages))
        stages[first] = nn.Sequential(UnitAmplitude(), stages[first])
    return stages


def check_remembered(config: Config) -> None:
    """Refuse a network of the user's own that would answer otherwise once saved and loaded.

    Raises
    ------
    ConfigError
        If its answers outside of training do not repeat, or hang on a state that training changes
        and no weights hold, such as a plain attribute.
    """
    if not is_code_name(config.network.name):
        return
    trained, loaded = build_model(config).train(), build_model(config)
    with seeded(config.seed, "remembered"), torch.no_grad():
        sample = torch.randn(2, *config.input_shape)
        try:
            trained(sample)
        except FORWARD_ERRORS:  # two samples may be too few for it
            return
        loaded.load_state_dict(trained.state_dict(), strict=False)
        answer, again, other = (model.eval()(sample) for model in (trained, trained, loaded))
    if not is_same(answer, again):
        problem = "answers otherwise each time outside of training."
        raise ConfigError(config.network.name, problem, "Draw random numbers in training alone.")
    if not is_same(answer, other):
        problem = "training changes a state of it that is not saved with its weights."
        remedy = "Keep it by register_buffer, persistent as it is by default."
        raise ConfigError(config.network.name, problem, remedy)


def answer_noise(model: BlockStack, config: Config) -> list[float]:
    """Compute what a model answers to one sample of noise, by which changed code is known."""
    with seeded(0, "noise"):
        sample = torch.randn(1, *config.input_shape)
    with evaluating(model):
        answer: list[float] = model(sample.to(next(model.parameters()).device))[0].tolist()
    return answer


def check_code(config: Config, where: str) -> None:
    """Refuse a model on disk whose network or method is foreign code that may not run or is absent.

    Raises
    ------
    BundleError
        If it is not trusted (see `brainage.named_code`), or cannot be imported.
    """
    for key, name in (
        ("network.name", config.network.name),
        ("learning.method", config.learning.method),
    ):
        if is_code_name(name):
            check_trusted(name, where)
            try:
                load_code(name, key)
            except ConfigError as error:
                raise BundleError(where, f"needs code that is absent: {error}") from error


def cut(config: Config, stages: dict[str, nn.Module]) -> list[str]:
    """Choose the stages that start a block: named cuts, K balanced blocks, or every stage."""
    learning = config.learning
    if METHOD_RULES[learning.method].cuts_every_stage:
        return list(stages)
    if learning.cuts is not None:
        return check_starts(learning.cuts, stages)
    if learning.blocks is None:
        return list(stages)
    return split(stages, _sample(config), blocks=learning.blocks, cut_by=learning.cut_by)


def describe_cut(config: Config) -> list[dict[str, str | float]]:
    """Describe each block's stages and share of time, memory, parameters: see `block_shares`."""
    stages = _build_stages(config)
    return block_shares(stages, cut(config, stages), _sample(config))


def stage_names(config: Config) -> list[str]:
    """List the names of the network's stages, in order."""
    return list(_build_stages(config))


def cut_names(config: Config) -> list[str]:
    """List the names of the stages that start a block."""
    return cut(config, _build_stages(config))


def block_count(config: Config) -> int:
    """Count the blocks K that the network of a configuration is cut into."""
    return len(cut(config, _build_stages(config)))


def group_blocks(config: Config, stages: int) -> list[range]:
    """Share the blocks out among the stages of a pipeline, neighbours together, by cost.

    Raises
    ------
    ConfigError
        If there are more stages than blocks.
    """
    costs = {str(row["block"]): int(1e9 * float(row["time"])) for row in describe_cut(config)}
    if stages > len(costs):
        raise ConfigError(
            "--processes",
            f"{stages} stages of a pipeline cannot share {len(costs)} blocks.",
            "Raise learning.blocks, or use fewer processes.",
        )
    starts = [int(name) for name in choose_starts(costs, stages)]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(costs)], strict=True)]


def parameter_count(model: BlockStack | LocalBlock) -> int:
    """Count the trainable parameters, heads included."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def derive_seed(seed: int, *labels: str | int) -> int:
    """Derive a seed for one purpose, independent of those for other purposes."""
    text = ":".join(str(label) for label in (seed, *labels))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *labels: str | int) -> Iterator[None]:
    """Run with torch's generator at a derived seed; restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        _seed_generators(derive_seed(seed, *labels))
        yield


def _seed_generators(seed: int) -> None:
    """`torch.manual_seed` of what is in use; it keeps a stack trace for each device that is not."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
