"""Joins the learning rule and the networks: settings in, a BlockStack and its target out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import torch
from torch import nn

from brainage.config import Config, TargetConfig
from brainage.errors import ConfigError
from brainage.lfnn.blocks import (
    BlockStack,
    LocalBlock,
    build_stack,
    check_starts,
    choose_starts,
    measure_costs,
)
from brainage.lfnn.losses import AgeBins, ScalarAge, Target
from brainage.lfnn.rules import WITHOUT_HIDDEN_HEADS
from brainage.lfnn.workers import WorkerHead
from brainage.networks import build_stages


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
        If the age range is open.
    """
    if target.low_years is None or target.high_years is None:
        raise ConfigError("target.low_years", "the age range is open.", "Give low and high years.")
    if target.kind == "scalar":
        return ScalarAge(target.low_years, target.high_years)
    return AgeBins(target.low_years, target.high_years, target.bins, target.sigma_bins)


def build_model(config: Config) -> BlockStack:
    """Build the network cut into blocks, with the heads that the method needs.

    Bodies and the output head start from the same weights for every method of a seed.
    """
    learning, shape = config.learning, config.preprocessing.shape
    target = build_target(config.target)
    without_hidden = learning.method in WITHOUT_HIDDEN_HEADS

    def build_head(
        block_index: int, feature_shape: tuple[int, ...], is_last: bool
    ) -> WorkerHead | None:
        if without_hidden and not is_last:
            return None
        with seeded(config.seed, "head", "output" if is_last else str(block_index)):
            return WorkerHead(
                feature_shape,
                target.outputs,
                workers=1 if is_last else learning.workers_per_block,
                reads="all" if is_last else learning.worker_reads,
                pool=learning.output_pool if is_last else learning.head_pool,
                norm=learning.head_norm,
                dropout=learning.head_dropout,
            )

    with seeded(config.seed, "body"):
        stages = build_stages(config.network.name, 1, shape, config.network.arguments)
    starts = cut(config, stages)
    return build_stack(stages, starts, (1, *shape), build_head)


def cut(config: Config, stages: dict[str, nn.Module]) -> list[str]:
    """Names of the stages that start a block: named cuts, K balanced blocks, or every stage."""
    learning = config.learning
    if learning.cuts is not None:
        return check_starts(learning.cuts, stages)
    if learning.blocks is None:
        return list(stages)
    return choose_starts(measure_costs(stages, (1, *config.preprocessing.shape)), learning.blocks)


def block_count(config: Config) -> int:
    """Number of blocks K that the network of a configuration is cut into."""
    shape = config.preprocessing.shape
    return len(cut(config, build_stages(config.network.name, 1, shape, config.network.arguments)))


def parameter_count(model: BlockStack | LocalBlock) -> int:
    """Number of trainable parameters, heads included."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def derive_seed(seed: int, *labels: str | int) -> int:
    """A seed for one purpose, independent of those for other purposes."""
    text = ":".join(str(label) for label in (seed, *labels))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *labels: str | int) -> Iterator[None]:
    """Run with torch's generator at a derived seed; restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *labels))
        yield
