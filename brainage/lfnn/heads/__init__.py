"""Heads by name, one a module with a function ``build(head, place, outputs)``.

A head turns a block's features into the outputs (B, W, C) of its workers. It may look at the
stages behind the block and copy them, but trains none of them.
"""

import importlib
from collections.abc import Callable
from typing import cast

from torch import nn

from brainage.errors import ConfigError
from brainage.lfnn.blocks import BlockPlace
from brainage.lfnn.workers import Head, WorkerHead
from brainage.types import HEADS

Build = Callable[[Head, BlockPlace, int], nn.Module]


def build_head(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build what reads a block: for a hidden one the named head, for the last the output.

    Raises
    ------
    ConfigError
        If there is no head of that name, or it does not fit the features.
    """
    if place.is_last:
        return WorkerHead(
            place.feature_shape,
            outputs,
            pool=head.output_pool,
            norm=head.norm,
            dropout=head.dropout,
            token=head.token,
        )
    if head.kind not in HEADS:
        known = ", ".join(HEADS)
        raise ConfigError("learning.head", f"unknown head {head.kind!r}.", f"Use one of {known}.")
    module = importlib.import_module(f"{__name__}.{head.kind}")
    return cast(Build, module.build)(head, place, outputs)
