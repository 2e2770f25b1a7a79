"""AugLocal heads: fresh copies of evenly spaced later stages (Ma et al. 2024, arXiv 2402.17318).

The first block's head has `DEPTH` of them, later ones fewer, as in the source. Where a stage
expects another shape than the stage copied before it gives, maps are pooled to its grid and a
1-wide layer brings channels to its width: our reading, so that any network can be copied from.
"""

from copy import deepcopy

import torch
from torch import nn

from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockPlace, pass_sample
from brainage.lfnn.heads._layers import Pool, check_reads_all, mix
from brainage.lfnn.heads.linear import read_linearly
from brainage.lfnn.workers import Head, feature_channels

DEPTH = 3


def build(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build {adapter, copy} for each chosen stage, then linear workers."""
    check_reads_all(head)
    chosen = choose_stages(_learning_stages(place), place)
    layers: list[nn.Module] = []
    shape = place.feature_shape
    for stage, expected, given in chosen:
        layers += [_adapt(shape, expected), fresh_copy(stage)]
        shape = given
    return nn.Sequential(*layers, read_linearly(head, shape, outputs))


Shape = tuple[int, ...]
Copied = tuple[nn.Module, Shape, Shape]
"""A stage with the shapes of its input and output."""


def choose_stages(stages: list[Copied], place: BlockPlace) -> list[Copied]:
    """Choose evenly spaced stages, the last one among them; fewer the deeper the block."""
    hidden = place.blocks - 1
    depth = DEPTH - place.block_index * DEPTH // hidden
    depth = min(max(1, depth), len(stages))
    return [stages[(n + 1) * len(stages) // depth - 1] for n in range(depth)]


def _learning_stages(place: BlockPlace) -> list[Copied]:
    """Later stages that have weights, with their shapes."""
    weight = next((w for stage in place.later_stages for w in stage.parameters()), torch.empty(0))
    sample, found = weight.new_zeros(1, *place.feature_shape), []
    for stage in place.later_stages:
        expected, sample = tuple(sample.shape[1:]), pass_sample(stage, sample)
        if next(stage.parameters(), None) is not None:
            found.append((stage, expected, tuple(sample.shape[1:])))
    return found


def fresh_copy(stage: nn.Module) -> nn.Module:
    """Copy a stage and draw its weights anew, wherever its layers know how to."""
    copy = deepcopy(stage)
    for module in copy.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return copy


def _adapt(given: Shape, expected: Shape) -> nn.Module:
    if given == expected:
        return nn.Identity()
    if len(given) != len(expected) or (len(given) == 2 and given[0] != expected[0]):
        problem = f"auglocal cannot lead features {given} into a stage that expects {expected}."
        raise ConfigError("learning.head", problem, "Use head: dgl or linear.")
    layers: list[nn.Module] = []
    if len(given) > 2 and given[1:] != expected[1:]:
        layers.append(Pool(expected[1:]))
    if feature_channels(given) != feature_channels(expected):
        layers.append(mix(given, feature_channels(expected), is_plain=True))
    return nn.Sequential(*layers)
